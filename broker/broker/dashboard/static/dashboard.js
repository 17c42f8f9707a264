// Lets somebody stop the pages from changing, and says when the broker cannot be reached.
"use strict";

const status = document.getElementById("connection");
const switches = document.querySelectorAll("[data-live]");
let live = true;

for (const button of switches) {
  button.hidden = false;
  button.addEventListener("click", () => {
    live = !live;
    button.setAttribute("aria-pressed", String(live));
  });
}

document.addEventListener("htmx:before:request", (event) => {
  if (!live || document.hidden) event.preventDefault();
});

function tell(text) {
  if (status !== null && status.textContent !== text) status.textContent = text;
}

document.addEventListener("htmx:error", () => tell("The broker cannot be reached. Trying again…"));
document.addEventListener("htmx:response:error", () => tell("This page cannot be updated. Load it anew."));
document.addEventListener("htmx:after:swap", () => tell(""));
