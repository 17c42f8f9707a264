// Follows a topic: Server-Sent Events, the newest first. Whatever a message holds is put in as text.
"use strict";

const MOST = 200;
const table = document.getElementById("tail");
const body = table.tBodies[0];
const state = document.getElementById("tail-state");
const button = document.getElementById("tail-switch");
let source = null;
let last = null;
let count = 0;

function cell(kind, text, className) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function shown(event) {
  if (event.data !== undefined) return JSON.stringify(event.data);
  return event.data_base64 === undefined ? "–" : event.data_base64;
}

// Numbers stay as they were written, where the browser can keep them so: 2^53 + 1 is no double.
function asWritten(_, value, context) {
  return typeof value === "number" && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

function add(sequence, event) {
  const row = document.createElement("tr");
  const place = cell("th", "", "number");
  place.scope = "row";
  const link = cell("a", sequence);
  link.href = table.dataset.message.replace(/0$/, encodeURIComponent(sequence));
  place.append(link);
  row.append(
    place,
    cell("td", String(event.time ?? "").slice(11, 19) || "–", "time"),
    cell("td", event.type),
    cell("td", event.partitionkey ?? "–"),
    cell("td", shown(event).slice(0, 500), "data"),
  );
  body.prepend(row);
  while (body.rows.length > MOST) body.deleteRow(-1);
}

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function follow() {
  source = new EventSource(table.dataset.stream + (last === null ? "" : `?after=${last}`));
  button.textContent = "Stop";
  say("Connecting…");
  source.addEventListener("open", () => say("Live: messages appear as they come."));
  source.addEventListener("error", () => {
    const over = source.readyState === EventSource.CLOSED;
    say(over ? "The topic cannot be followed. Load this page anew." : "The connection is lost. Trying again…");
  });
  source.addEventListener("message", (message) => {
    last = message.lastEventId;
    count += 1;
    add(last, JSON.parse(message.data, asWritten));
  });
}

button.hidden = false;
button.addEventListener("click", () => {
  if (source === null) {
    follow();
    return;
  }
  source.close();
  source = null;
  button.textContent = "Go on";
  say(`Stopped after ${count} ${count === 1 ? "message" : "messages"}. What comes meanwhile is shown when you go on.`);
});
follow();
