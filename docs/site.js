// Areas that scroll sideways (tables, code) can be scrolled by keyboard, too.
document$.subscribe(() => {
  const focusable = () => document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((area) => {
    if (area.scrollWidth > area.clientWidth) area.tabIndex = 0;
  });
  requestAnimationFrame(focusable);
  addEventListener("resize", focusable);
});

// Tables of ten rows or more get a text field, and a menu for each column of a few values: both leave rows out.
document$.subscribe(() => {
  document.querySelectorAll(".md-typeset table:not([class])").forEach((table) => {
    const rows = [...table.tBodies[0]?.rows ?? []];
    if (rows.length < 10) return;
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    const text = (row, column) => row.cells[column].textContent.trim();
    const field = Object.assign(document.createElement("input"), {type: "search", placeholder: "Filter rows"});
    field.setAttribute("aria-label", "Filter rows");
    const menus = names.flatMap((name, column) => {
      const values = [...new Set(rows.map((row) => text(row, column)))].sort();
      const few = values.length > 1 && values.length < 15 && values.length <= rows.length / 2;
      if (!few || values.some((value) => !value || value.length > 60 || /^[\d+−]/.test(value))) return []; // no menus of numbers or of empty cells
      const menu = document.createElement("select");
      menu.setAttribute("aria-label", name);
      menu.append(new Option(`${name}: all`, ""), ...values.map((value) => new Option(value, value)));
      return [{menu, column}];
    });
    const bar = Object.assign(document.createElement("div"), {className: "filters"});
    bar.append(field, ...menus.map((each) => each.menu));
    bar.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      rows.forEach((row) => {
        const all = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => all.includes(word))
          || menus.some(({menu, column}) => menu.value && text(row, column) !== menu.value);
      });
    });
    (table.closest(".md-typeset__scrollwrap") ?? table).before(bar);
  });
});
