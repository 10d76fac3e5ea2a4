"use strict";
/* What all pages share; it is put before their own scripts. */

/* Texts are set as text alone, never as HTML. */
function make(name, properties, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties || {})) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

async function send(path, body, kind) {
  let reply;
  try {
    reply = await fetch(path, {method: "POST", headers: {"Content-Type": kind || "application/json"},
      body: kind ? body : JSON.stringify(body)});
  } catch {
    throw new Error("The server can't be reached.");
  }
  const read = await reply.json().catch(() => ({}));
  if (!reply.ok) throw Object.assign(new Error(read.error || "The server refused the request."), {status: reply.status});
  return read;
}
