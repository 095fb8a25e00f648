"use strict";
// The reader's choice of colors: "auto" as the device has it, "light" or "dark". It is kept on this device. This file stands in the head
// and is waited for, so that no page is drawn in other colors first. Without it, all pages are as "auto".

const KEPT = "tips-bench-theme";
const CHOICES = ["auto", "light", "dark"];

const kept = () => {
  try { return CHOICES.find((theme) => theme === localStorage.getItem(KEPT)) || "auto"; } catch { return "auto"; } // storage is forbidden
};
const show = (theme) => { document.documentElement.dataset.theme = theme; };

show(kept());
document.addEventListener("DOMContentLoaded", () => {
  const choice = document.querySelector(".theme select");
  choice.value = kept();
  choice.parentElement.hidden = false;
  choice.addEventListener("change", () => {
    try { localStorage.setItem(KEPT, choice.value); } catch { /* it holds for this page */ }
    show(choice.value);
  });
});
window.addEventListener("storage", (event) => { if (event.key === KEPT) show(kept()); }); // changed on another page
