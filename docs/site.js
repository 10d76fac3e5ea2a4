// Areas that scroll sideways (tables, code) can be scrolled by keyboard, too.
document$.subscribe(() => {
  const focusable = () => document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((area) => {
    if (area.scrollWidth > area.clientWidth) area.tabIndex = 0;
  });
  requestAnimationFrame(focusable);
  addEventListener("resize", focusable);
});
