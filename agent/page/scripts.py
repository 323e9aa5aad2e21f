"""What runs in the browser: JavaScript that the page hands to Gradio's events."""

from __future__ import annotations

__all__ = [
    "CLOSE_THE_CANVAS",
    "CLOSE_WHERE_NARROW",
    "CLOSE_WITH_ESCAPE",
    "FOLLOW_THE_TALK",
    "NAMES_OF_FILES",
    "OPEN_WHERE_WIDE",
    "READ_ADDRESS",
    "SLIDE_WITH_ARROWS",
    "TIDY_THE_KEYS",
    "WRITE_ADDRESS",
]

READ_ADDRESS = """(address, drawings) =>
  [new URLSearchParams(window.location.search).get("conversation") || "", drawings]"""

WRITE_ADDRESS = """(conversation) => {
  const url = new URL(window.location.href);
  if (conversation) url.searchParams.set("conversation", conversation);
  else url.searchParams.delete("conversation");
  window.history.replaceState(window.history.state, "", url);
}"""

FOLLOW_THE_TALK = """() => {
  const chat = document.querySelector("#chat");
  let following = true, requests = 0;
  const follow = () => {
    const now = chat.querySelectorAll(".message.user").length;
    if (now !== requests) { requests = now; following = true; }
    const talk = chat.querySelector(".bubble-wrap");
    if (following && talk) talk.scrollTop = talk.scrollHeight;
  };
  for (const act of ["wheel", "touchmove", "pointerdown", "keydown"])
    chat.addEventListener(act, () => { following = false; }, {passive: true});
  chat.addEventListener("load", follow, true);
  new MutationObserver(follow).observe(chat, {childList: true, characterData: true, subtree: true});
}"""
"""Pictures grow when they have loaded, after which Gradio takes the reader for one who scrolled."""

TIDY_THE_KEYS = """() => {
  const chat = document.querySelector("#chat");
  const tidy = () => {
    for (const inner of chat.querySelectorAll(".title button, a button")) inner.tabIndex = -1;
    for (const title of chat.querySelectorAll(".thought-group .title"))
      title.setAttribute("aria-expanded", title.classList.contains("expanded"));
  };
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.matches("[role=button]:not(button)")) return;
    event.preventDefault();
    event.target.click();
  });
  new MutationObserver(tidy).observe(
    chat, {childList: true, subtree: true, attributes: true, attributeFilter: ["class"]});
}"""
"""Gradio has buttons in buttons and links, where a key would press both, and some without Space."""

SLIDE_WITH_ARROWS = """() => {
  const find = () => document.querySelector("#change [data-testid=slider]");
  const tidy = () => {
    const handle = find();
    if (!handle || handle.tabIndex === 0) return;
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", "Where before ends and after begins");
    handle.setAttribute("aria-valuenow", "50");
  };
  document.addEventListener("keydown", (event) => {
    const handle = find(), ways = {ArrowLeft: -1, ArrowRight: 1, Home: -20, End: 20};
    if (event.target !== handle || !(event.key in ways)) return;
    event.preventDefault();
    const {left, top, width, height} = handle.getBoundingClientRect();
    const picture = document.querySelector("#change img"), box = picture.getBoundingClientRect();
    const seen = Math.min(box.width, box.height * picture.naturalWidth / picture.naturalHeight);
    const start = box.left + (box.width - seen) / 2, x = left + width / 2;
    const share = Math.min(1, Math.max(0, (x - start) / seen + ways[event.key] / 20));
    const drag = (where, kind, clientX) => where.dispatchEvent(new MouseEvent(
      kind, {bubbles: true, cancelable: true, view: window, clientX, clientY: top + height / 2}));
    drag(handle, "mousedown", x);
    drag(window, "mousemove", start + share * seen);
    drag(window, "mouseup", start + share * seen);
    handle.setAttribute("aria-valuenow", Math.round(100 * share));
    handle.focus();
  });
  new MutationObserver(tidy).observe(
    document.querySelector("#tools"), {childList: true, subtree: true});
}"""
"""Gradio's line between two pictures knows pointers alone, so keys drag it."""

CLOSE_WITH_ESCAPE = """() => document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.target.matches("[role=listbox]")) return;
  const find = (selector) => document.querySelector(selector);
  const around = document.activeElement.closest(
    ".block:has(> .label-wrap.open), .thought-group:has(.title.expanded)");
  const fold = around?.querySelector(".label-wrap, .title") || find("#tools .label-wrap.open");
  const side = window.innerWidth < 768 && find(".sidebar.open .toggle-button");
  const opened = find("#entry .stop-button") || side || fold || find("#reword-not")
    || (find("#comment") && find("#comment-not"));
  if (!opened) return;
  opened.click();
  (opened === fold ? fold : find("#entry textarea")).focus();
})"""
"""What runs is stopped first; then the fold-out around the focus closes, or any other above."""

OPEN_WHERE_WIDE = """() => {
  if (window.innerWidth >= 768 && !document.querySelector(".sidebar.open"))
    document.querySelector(".sidebar .toggle-button")?.click();
}"""

CLOSE_WHERE_NARROW = """() => {
  if (window.innerWidth < 768 && document.querySelector(".sidebar.open"))
    document.querySelector(".sidebar .toggle-button")?.click();
}"""

CLOSE_THE_CANVAS = '() => document.querySelector("#mark-box > .label-wrap.open")?.click()'
"""Done here because the server does not know what a person has opened or closed."""

NAMES_OF_FILES = "(entry) => (entry?.files || []).map((file) => file.path).join('\\n')"
