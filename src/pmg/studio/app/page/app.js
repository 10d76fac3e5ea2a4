/* make and send are in studio/page/common.js */
const content = JSON.parse(document.getElementById("content").textContent);
const at = id => document.getElementById(id);
const choice = new Map(); /* picture index -> "like" or "dislike" */
const uploads = [];
const said = [];
let job = null, start = null, shown = null, drawn = "", owner = "", mine = [], asked = 0, pause = 0;
const OWNERS = {own: "for you", other: "for ", nobody: "for nobody in particular"};

function draw(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function report(error) {
  at("error").textContent = error ? error.message || String(error) : "";
  if (error) at("error").scrollIntoView({block: "nearest"});
  else if (!job) at("step").textContent = "";
}

function update() {
  for (const button of at("pictures").children) {
    const state = choice.get(Number(button.dataset.index)) || "";
    button.className = `picture ${state}`;
    const title = content.pictures[button.dataset.index].title;
    button.setAttribute("aria-label", `${title}: ${state ? state + "d" : "not chosen"}`);
  }
  const count = state => [...choice.values()].filter(each => each === state).length;
  at("counts").textContent = `${count("like") + uploads.length} liked, ${count("dislike")} disliked`;
  sessionStorage.setItem("choice", JSON.stringify([...choice])); /* outlives a reload */
}

function build() {
  content.pictures.forEach((picture, index) => {
    const button = make("button", {type: "button", className: "picture", title: picture.title}, make("img", {src: picture.picture, alt: ""}));
    button.dataset.index = index;
    button.addEventListener("click", () => {
      const state = choice.get(index);
      if (!state) choice.set(index, "like"); else if (state === "like") choice.set(index, "dislike"); else choice.delete(index);
      at("user").value = owner = "";
      report();
      update();
    });
    at("pictures").append(button);
  });
  content.users.forEach((user, index) => {
    at("user").append(make("option", {value: index}, user.name));
    at("other").append(make("option", {value: index}, user.name));
  });
  at("other").value = content.users.length > 1 ? "auto" : "";
  at("targets").append(...content.titles.map(title => make("option", {value: title})));
  at("target").value = content.target;
  at("knows").textContent = content.only ? `It draws ${content.titles.length} things; they are suggested as you type.` : "";
  at("steps").value = content.steps;
  at("alpha").value = content.alpha;
  at("chat").hidden = !content.chats;
  at("starts").hidden = !content.starts;
  for (const [name, values] of Object.entries(content.facts)) {
    const select = make("select", {}, ...values.map(value => make("option", {}, value)));
    select.dataset.fact = name;
    at("facts").append(make("p", {}, make("label", {}, `${name} `, select)));
  }
  for (const [index, state] of JSON.parse(sessionStorage.getItem("choice") || "[]")) {
    if (index < content.pictures.length) choice.set(index, state);
  }
  update();
}

at("user").addEventListener("change", event => {
  if (owner === "") mine = [...choice];
  owner = event.target.value;
  choice.clear();
  const liked = owner === "" ? mine : content.users[owner].liked.map(index => [index, "like"]);
  liked.forEach(([index, state]) => choice.set(index, state));
  report();
  update();
});

at("clear").addEventListener("click", () => {
  choice.clear();
  uploads.length = said.length = 0;
  listMessages();
  at("uploads").replaceChildren();
  at("user").value = owner = "";
  report();
  update();
});

/* Sends the chosen file of an input, and hands the picture that comes back to `use`. */
async function upload(input, use) {
  const file = input.files[0];
  if (!file) return;
  report();
  try {
    if (file.size > 10 * 2 ** 20) throw new Error("The picture is larger than 10 MiB. Make it smaller.");
    use((await send("api/upload", file, "application/octet-stream")).picture);
  } catch (error) {
    report(error);
  }
  input.value = "";
}

at("upload").addEventListener("change", async event => {
  if (uploads.length >= 6) {
    event.target.value = "";
    return report("At most six pictures can be uploaded.");
  }
  await upload(event.target, picture => {
    const facts = Object.fromEntries([...at("facts").querySelectorAll("select")].map(each => [each.dataset.fact, each.value]));
    const title = at("upload-title").value.trim() || "my sticker";
    uploads.push({title, picture, facts});
    at("uploads").append(make("div", {className: "picture like"}, make("img", {src: picture, alt: title})));
    update();
  });
});

function startFrom(picture) {
  start = picture;
  at("start-shown").hidden = !picture;
  if (picture) at("start-picture").src = picture;
}

at("start").addEventListener("change", event => upload(event.target, startFrom));
at("start-remove").addEventListener("click", () => startFrom(null));

function listMessages() {
  at("said").replaceChildren(...said.map((text, place) => {
    const remove = make("button", {type: "button", "aria-label": `Remove: ${text}`}, "Remove");
    remove.addEventListener("click", () => { said.splice(place, 1); listMessages(); at("message").focus(); });
    return make("li", {}, `${text} `, remove);
  }));
}

function say() {
  const text = at("message").value.trim();
  report();
  if (!text) return;
  if (said.length >= 24) return report("At most 24 messages can be read.");
  said.push(text);
  at("message").value = "";
  listMessages();
}

at("say").addEventListener("click", say);
at("message").addEventListener("keydown", event => { if (event.key === "Enter") say(); });

function busy(on) {
  at("generate").disabled = on;
  at("cancel").disabled = !on;
  at("progress").hidden = !on;
}

/* Says which title is drawn where the target is none, and names other near ones, which a click chooses. */
async function advise() {
  const text = at("target").value.trim(), turn = ++asked;
  report();
  const known = !text || content.titles.some(title => title.toLowerCase() === text.toLowerCase());
  const titles = known ? [] : (await send("api/nearest", {target: text})).titles;
  if (turn !== asked) return;
  at("remark").replaceChildren(...(titles.length ? [`“${text}” is drawn as “${titles[0]}”. Or: `] : []),
    ...titles.slice(1).map(title => {
      const button = make("button", {type: "button"}, title);
      button.addEventListener("click", () => { at("target").value = title; advise().catch(report); });
      return button;
    }));
}

/* The person to compare with: the chosen one, or of the others the first who likes the fewest pictures that you like. */
function compared() {
  if (at("other").value !== "auto") return at("other").value === "" ? null : Number(at("other").value);
  const shared = content.users.map(user => user.liked.filter(index => choice.get(index) === "like").length);
  const others = content.users.map((_, index) => index).filter(index => String(index) !== at("user").value);
  return others.length ? others.reduce((best, each) => shared[each] < shared[best] ? each : best) : null;
}

at("target").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(() => advise().catch(report), 300); });
at("target").addEventListener("focus", event => event.target.select());
at("target").addEventListener("keydown", event => { if (event.key === "Enter" && !job) at("generate").click(); });
at("another").addEventListener("click", () => { at("seed").value = Number(at("seed").value) + 1; at("generate").click(); });

at("generate").addEventListener("click", async () => {
  report();
  const chosen = state => [...choice].filter(each => each[1] === state).map(each => each[0]);
  const wish = {liked: chosen("like"), disliked: chosen("dislike"), uploads, said, target: at("target").value.trim(),
    other: compared(), seed: Number(at("seed").value), steps: at("steps").value === "" ? null : Number(at("steps").value),
    start, strength: Number(at("strength").value)};
  busy(true);
  try {
    if (!wish.target) throw new Error("Name what the picture should show.");
    job = (await send("api/generate", wish)).id;
    await advise();
    drawn = wish.target;
    at("unsure").textContent = at("remark").textContent.split(" Or: ")[0];
    await follow(job);
  } catch (error) {
    report(error);
  } finally {
    job = null;
    busy(false);
  }
});

at("cancel").addEventListener("click", () => { if (job) send("api/cancel", {id: job}).catch(report); });

async function follow(id) {
  let seen = "";
  for (;;) {
    const state = await send("api/job", {id});
    at("progress").value = state.progress;
    at("step").textContent = state.status === "waiting" ? `waiting; jobs before yours: ${state.before}` : state.status === "running" ? state.step : state.status;
    const names = Object.keys(state.results).join();
    if (names !== seen) {
      seen = names;
      shown = state.results;
      show();
      const hidden = at("results").getBoundingClientRect().bottom > innerHeight; /* as on a phone */
      if (hidden) at("results").scrollIntoView({behavior: "smooth", block: "start"});
    }
    if (state.status === "failed") throw new Error(state.error);
    if (state.status === "done" || state.status === "cancelled") return;
    await new Promise(resolve => setTimeout(resolve, 250));
  }
}

/* The candidate that is kept at an alpha of the slider. */
const pick = (result, alpha) => result.picks[Math.round(100 * alpha)];

/* Scores of chosen keywords are log-probabilities; others, such as counts, aren't shown. */
function probability(score) {
  return score === undefined || score > 0 ? "–" : `${Math.round(100 * Math.exp(score))} %`;
}

function show() {
  const alpha = Number(at("alpha").value);
  at("alpha-value").textContent = alpha.toFixed(2);
  if (!shown || !shown.own) return;
  at("results").hidden = false;
  at("owners").replaceChildren(...Object.keys(OWNERS).filter(name => name in shown).map(name => {
    const result = shown[name], label = `${drawn}, ${OWNERS[name]}${result.user || ""}`, href = result.images[pick(result, alpha)];
    const image = make("img", {src: href, alt: label});
    image.dataset.owner = name;
    const save = make("a", {className: "button", href, download: `${label.replace(/[^\p{L}\p{N}]+/gu, "-")}.png`, "aria-label": `Save: ${label}`}, "Save");
    return make("figure", {}, image, make("figcaption", {}, label), save);
  }));
  const own = shown.own, picked = pick(own, alpha), candidate = own.record.candidates[picked];
  plane(own, picked);
  const words = own.record.preference_keywords;
  at("keywords").tBodies[0].replaceChildren(...words.map((word, place) => make("tr", {}, make("td", {}, word),
    make("td", {}, probability(own.scores[place])))));
  at("told").textContent = own.record.note;
  const negative = own.record.negative_keywords;
  at("dropped").textContent = [own.dropped.length ? `Dropped: ${own.dropped.join(", ")}.` : "No keyword was dropped.",
    negative.length ? `Negative: ${negative.join(", ")}.` : ""].join(" ");
  at("captions").replaceChildren(...own.captions.map(text => make("li", {}, text)));
  const record = {...own.record, alpha, picked, w_p: candidate.w_p, w_t: candidate.w_t};
  URL.revokeObjectURL(at("save-record").href);
  at("save-record").href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 2)], {type: "application/json"}));
}

function plane(own, picked) {
  const points = own.record.candidates.map(each => [each.accuracy, each.preference ?? 0]);
  const range = axis => {
    const values = points.map(point => point[axis]), low = Math.min(...values), high = Math.max(...values);
    const margin = Math.max((high - low) * 0.15, 0.005);
    return [low - margin, high + margin];
  };
  const [x, y] = [range(0), range(1)];
  const place = ([a, p]) => [60 + (a - x[0]) / (x[1] - x[0]) * 320, 230 - (p - y[0]) / (y[1] - y[0]) * 210];
  const svg = draw("svg", {viewBox: "0 0 400 280", role: "img", "aria-label": "Candidates by accuracy and preference score"});
  svg.append(draw("line", {x1: 60, y1: 230, x2: 390, y2: 230}), draw("line", {x1: 60, y1: 230, x2: 60, y2: 10}),
    draw("text", {x: 225, y: 270, "text-anchor": "middle"}, "accuracy score"),
    draw("text", {x: 14, y: 120, "text-anchor": "middle", transform: "rotate(-90 14 120)"}, "preference score"),
    draw("text", {x: 60, y: 247}, x[0].toFixed(3)), draw("text", {x: 385, y: 247, "text-anchor": "end"}, x[1].toFixed(3)),
    draw("text", {x: 54, y: 230, "text-anchor": "end"}, y[0].toFixed(3)), draw("text", {x: 54, y: 20, "text-anchor": "end"}, y[1].toFixed(3)));
  const front = own.front.map(index => points[index]).sort((a, b) => a[0] - b[0]).map(point => place(point).join(","));
  svg.append(draw("polyline", {points: front.join(" ")}));
  points.forEach((point, index) => {
    const [cx, cy] = place(point), right = cx < 280;
    svg.append(draw("circle", {cx, cy, r: 6, class: own.front.includes(index) ? "point front" : "point"}));
    if (index === picked) svg.append(draw("circle", {cx, cy, r: 11, class: "picked"}));
    const {w_p} = own.record.candidates[index];
    svg.append(draw("text", {x: right ? cx + 14 : cx - 14, y: cy + 4, "text-anchor": right ? "start" : "end"}, `weight ${w_p}`));
  });
  at("plane").replaceChildren(svg);
}

at("alpha").addEventListener("input", show);
build();
