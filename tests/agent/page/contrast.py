"""How far text stands out from what is behind it, as a browser shows it (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page

__all__ = ["Text", "contrasts"]

_READ = """() => {
  const parse = (colour) => {
    const canvas = parse.canvas ??= new OffscreenCanvas(1, 1).getContext(
      "2d", {willReadFrequently: true});
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r, g, b].map((c, n) => c * a + [R, G, B][n] * (1 - a));
  const light = (rgb) => rgb.map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const shown = (element, pseudo) => {
    const above = [];
    for (let e = element; e; e = e.parentElement) above.unshift(e);
    let behind = [255, 255, 255], clear = 1;
    for (const e of above) {
      const style = getComputedStyle(e), fill = parse(style.backgroundColor);
      clear *= Number(style.opacity);
      behind = over([...fill.slice(0, 3), fill[3] * clear], behind);
    }
    const ink = getComputedStyle(element, pseudo);
    const [r, g, b, a] = parse(ink.color);
    const faded = pseudo ? Number(ink.opacity) : 1;
    return ratio(over([r, g, b, a * clear * faded], behind), behind);
  };
  const found = [];
  const note = (element, text, pseudo) => {
    const disabled = element.closest(":disabled, [aria-disabled=true]");
    const seen = element.checkVisibility({opacityProperty: true, visibilityProperty: true});
    const box = element.getBoundingClientRect();
    if (disabled || !seen || !box.width || !box.height || !text.trim()) return;
    const place = `${element.closest("[id]")?.id}: ${element.tagName}.${element.className}`;
    found.push([text.trim().slice(0, 60), shown(element, pseudo), place]);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = texts.nextNode());)
    if (!["SCRIPT", "STYLE", "NOSCRIPT"].includes(node.parentElement.tagName))
      note(node.parentElement, node.data, null);
  for (const entry of document.querySelectorAll("input, textarea"))
    if (entry.placeholder && !entry.value) note(entry, entry.placeholder, "::placeholder");
  return found;
}"""


@dataclass(frozen=True)
class Text:
    """A text on the page, its contrast to what is behind it (1 to 21), and where it stands."""

    text: str
    contrast: float
    place: str


def contrasts(page: Page) -> list[Text]:
    """Every text that is shown, placeholders too; what is disabled may be faint."""
    return [Text(*found) for found in page.evaluate(_READ)]
