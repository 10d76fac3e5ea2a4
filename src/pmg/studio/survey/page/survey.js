/* make and send are in studio/page/common.js */
const content = JSON.parse(document.getElementById("content").textContent);
const main = document.getElementById("main"), progress = document.getElementById("progress");
const STORE = "survey-" + content.id;
const SIDES = {left: "Left", right: "Right", tie: "No preference"};
let state = null, shownAt = 0, busy = false, kept = true;

function load() {
  try { return JSON.parse(localStorage.getItem(STORE)); } catch { return null; }
}

/* Keeps the answers in the browser, and looks whether it does: some browsers keep nothing of a file, or in private. */
function store() {
  try { localStorage.setItem(STORE, JSON.stringify(state)); kept = Boolean(load()); } catch { kept = false; }
}

function show(...children) {
  const warning = "This browser doesn't keep answers: please don't reload or close this page before the end.";
  main.replaceChildren(...children, ...(kept || content.served ? [] : [make("p", {className: "error"}, warning)]));
  main.focus({preventScroll: true});
  window.scrollTo(0, 0);
  shownAt = performance.now();
}

function newCode() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
}

function intro() {
  const agree = make("input", {type: "checkbox", id: "agree"});
  const fromAddress = Number.parseInt(location.hash.slice(1), 10);
  const number = make("input", {type: "number", id: "number", min: 1, max: 1e6, inputMode: "numeric",
    value: fromAddress >= 1 ? fromAddress : ""});
  const start = make("button", {type: "button", className: "next", disabled: true}, "Start");
  const error = make("p", {className: "error", role: "alert"});
  agree.addEventListener("change", () => { start.disabled = !agree.checked; });
  start.addEventListener("click", async () => {
    if (busy) return;
    busy = true;
    try {
      if (content.served) {
        state = {...await send("api/join", {survey: content.id, consent: true}), survey: content.id};
      } else {
        const drawn = crypto.getRandomValues(new Uint32Array(1))[0];
        const slot = number.value >= 1 ? number.value - 1 : drawn;
        state = {survey: content.id, rater: newCode(), slot: Math.floor(slot) % content.plans.length, answers: {}};
      }
      store();
      next();
    } catch (problem) {
      error.textContent = problem.message + " Try again.";
    } finally {
      busy = false;
    }
  });
  const fields = content.served ? [] : [
    make("label", {}, "Your participant number, if you were given one: ", number)];
  show(make("h1", {}, content.title), ...content.consent.map(text => make("p", {}, text)),
    make("label", {}, agree, "I have read this and take part voluntarily."), ...fields, start, error);
}

function tasks() { return content.plans[state.slot]; }

function next() {
  const open = tasks().findIndex((_, number) => !(number in state.answers));
  progress.hidden = false;
  progress.max = tasks().length;
  progress.value = open < 0 ? tasks().length : open;
  if (open < 0) finish();
  else if (tasks()[open][0] === "rating") rating(open);
  else pair(open);
}

async function answer(number, value, button, error) {
  if (busy) return;
  busy = true;
  button.disabled = true;
  error.textContent = "";
  const seconds = Math.round((performance.now() - shownAt) / 100) / 10;
  try {
    if (content.served) await send("api/answer", {rater: state.rater, task: number, value, seconds});
    state.answers[number] = {value, seconds};
    store();
    next();
  } catch (problem) {
    error.textContent = problem.message + " Your answer isn't saved yet: press Next again.";
    button.disabled = false;
  } finally {
    busy = false;
  }
}

function context(number, item) {
  const kind = tasks()[number][0];
  const name = kind === "practice" ? "Practice: this answer doesn't count" : `Task ${number} of ${tasks().length - 1}`;
  const pictures = item.history.map((source, place) => make("img", {src: source, alt: `Liked picture ${place + 1}`}));
  return [
    make("p", {className: "step"}, name),
    ...(pictures.length ? [make("h2", {}, "A person liked these pictures:"), make("div", {className: "history"}, ...pictures)] : []),
    ...(item.said.length ? [make("h2", {}, "A person said:"), make("ul", {className: "said"}, ...item.said.map(text => make("li", {}, text)))] : []),
    make("h2", {}, "They want a picture of: ", make("span", {className: "target"}, item.target)),
  ];
}

function nextButton() {
  return [make("button", {type: "button", className: "next", disabled: true}, "Next"),
    make("p", {className: "error", role: "alert"})];
}

function pair(number) {
  const [kind, place, images, expected] = tasks()[number];
  const [button, error] = nextButton();
  let chosen = null;
  const options = Object.entries(SIDES).map(([value, label], position) => {
    const option = make("button", {type: "button", className: value === "tie" ? "tie" : "choice", "aria-pressed": "false"});
    option.dataset.value = value;
    if (value !== "tie") option.append(make("img", {src: content.images[images[position]], alt: `${label} picture`}));
    option.append(label);
    option.addEventListener("click", () => {
      chosen = value;
      options.forEach(each => each.setAttribute("aria-pressed", String(each === option)));
      button.disabled = false;
    });
    return option;
  });
  button.addEventListener("click", () => answer(number, chosen, button, error));
  const question = kind === "check"
    ? `To show that you read the questions, choose “${SIDES[expected]}” here.` : content.question;
  show(...context(number, content.items[place]), make("p", {}, question),
    make("div", {className: "pair"}, options[0], options[1]), options[2], button, error);
}

function scale(text, low, high, changed) {
  const steps = [1, 2, 3, 4, 5].map(value => {
    const step = make("button", {type: "button", "aria-pressed": "false", "aria-label": `${value} of 5`}, String(value));
    step.addEventListener("click", () => {
      steps.forEach(each => each.setAttribute("aria-pressed", String(each === step)));
      changed(value);
    });
    return step;
  });
  return make("div", {}, make("h2", {}, text), make("div", {className: "scale", role: "group", "aria-label": text}, ...steps),
    make("div", {className: "ends"}, make("span", {}, low), make("span", {}, high)));
}

function rating(number) {
  const [, place, images] = tasks()[number];
  const item = content.items[place], value = {};
  const [button, error] = nextButton();
  const changed = name => chosen => {
    value[name] = chosen;
    button.disabled = !("accuracy" in value && "preference" in value);
  };
  button.addEventListener("click", () => answer(number, value, button, error));
  show(...context(number, item), make("img", {className: "rated", src: content.images[images[0]], alt: "The picture"}),
    scale(content.accuracy.replace("{target}", () => item.target), "not at all", "perfectly", changed("accuracy")),
    scale(content.preference, "not at all", "perfectly", changed("preference")), button, error);
}

function finish() {
  const code = make("p", {}, `Your code, by which your answers can be deleted: ${state.rater}`);
  if (content.served) {
    show(make("h1", {}, "Thank you!"), make("p", {}, "All answers are saved. You can close this page."), code);
    return;
  }
  const save = make("button", {type: "button", className: "next"}, "Save answers");
  save.addEventListener("click", () => {
    const answers = Object.entries(state.answers).map(([task, each]) => ({task: Number(task), ...each}));
    const saved = {survey: state.survey, rater: state.rater, slot: state.slot, consent: true, answers};
    const address = URL.createObjectURL(new Blob([JSON.stringify(saved)], {type: "application/json"}));
    make("a", {href: address, download: `answers-${state.rater}.json`}).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });
  show(make("h1", {}, "Thank you!"), make("p", {}, "Save your answers, and send the file to the person who gave you this page."),
    save, code);
}

async function begin() {
  state = load();
  if (!state || state.survey !== content.id || !content.plans[state.slot]) { state = null; intro(); return; }
  if (content.served) {
    try {
      state = {...await send("api/state", {rater: state.rater}), survey: content.id};
    } catch (problem) {
      if (problem.status === 404) { state = null; intro(); return; }
      const again = make("button", {type: "button", className: "next"}, "Try again");
      again.addEventListener("click", begin);
      show(make("h1", {}, content.title), make("p", {className: "error", role: "alert"}, problem.message), again);
      return;
    }
  }
  next();
}
begin();
