"""How the page looks: gradio's own theme with fonts that come with it, and a little CSS."""

from __future__ import annotations

import gradio as gr

__all__ = ["CSS", "theme"]

CSS = """
body { background: var(--body-background-fill); }
.gradio-container { --side-gap: 12px; }
.gradio-container > main, .gradio-container .fillable { max-width: none !important; }
#main { max-width: 900px; width: 100%; margin: 0 auto; height: calc(100dvh - 32px); gap: 8px;
  flex-wrap: nowrap; }
#head { flex: none; }
#head h1 { font-size: 1.05rem; font-weight: 600; margin: 0; padding-left: 36px; line-height: 32px; }
#chat { flex: 1 1 0; min-height: 140px; border: 0; background: transparent; }
#chat button[aria-label="Share"], #chat .wrapper > .top-panel { display: none; }
#chat a:has(+ [aria-label="Share"]:last-child)::after { display: none; }
#chat .image-frame img { max-height: 380px; width: auto; object-fit: contain; }
#chat .message.user .image-frame img { max-height: 240px; }
#chat .bubble-wrap { background: transparent; }
#chat .thought-group pre code { white-space: pre-wrap; overflow-wrap: anywhere; }
#chat :is(.message-content, .md) { opacity: 1; }
#chat .token { --key: #9d174d; --text: #3f6212; --value: #1d4ed8; }
.dark #chat .token { --key: #f9a8d4; --text: #bef264; --value: #93c5fd; }
#chat .token:is(.punctuation, .operator) { color: inherit; background: none; }
#chat .token.property { color: var(--key); }
#chat .token.string { color: var(--text); }
#chat .token:is(.number, .boolean, .null, .keyword) { color: var(--value); }
#notice .told { border: 1px solid var(--error-border-color); color: var(--body-text-color);
  background: var(--error-background-fill); border-radius: var(--radius-lg); padding: 8px 12px; }
#tools { flex: 0 1 auto; min-height: 40px; overflow-y: auto; padding: 3px; margin: -3px;
  width: calc(100% + 6px); gap: 8px; align-items: center; flex-wrap: wrap; }
#main:has(#tools .label-wrap.open) #chat { min-height: 60px; }
#tools > * { flex: 0 0 auto; width: auto; min-width: 0 !important; margin: 0 !important; }
#tools > .block { padding: 0; }
#tools > .block > .label-wrap { padding: 4px 10px; font-size: var(--text-sm); gap: 6px; }
#tools > .block:has(> .label-wrap.open) { flex: 1 1 100%; order: 1; padding: 0 8px 8px; }
#tools button.sm { padding: 5px 10px; font-size: var(--text-sm); font-weight: 400; }
#tools > button.sm { background: var(--block-background-fill); font-size: var(--text-md);
  border: 1px solid var(--block-border-color); border-radius: var(--block-radius);
  padding: 3px 10px; }
#kind .wrap { flex-direction: row; }
#main > .form { flex: none; overflow: visible; }
.picks .wrap { flex-direction: column; flex-wrap: nowrap; gap: 2px; }
.picks .wrap label { width: 100%; border: 0; box-shadow: none; background: transparent;
  padding: 6px 8px; border-radius: var(--radius-md); }
.picks .wrap label:hover { background: var(--background-fill-secondary); }
.picks .wrap label.selected { background: var(--color-accent-soft); color: var(--body-text-color); }
.picks .wrap label:focus-within { outline: 2px solid var(--color-accent); outline-offset: -2px; }
.picks .wrap label input { position: absolute; opacity: 0; pointer-events: none; }
.picks .wrap label span { margin: 0; overflow: hidden; text-overflow: ellipsis; white-space: pre;
  min-width: 0; display: block; }
#history .wrap { max-height: 42dvh; overflow-y: auto; }
:is(button, a, input, textarea, [role="button"], [tabindex]):focus-visible {
  outline: 2px solid var(--color-accent) !important; outline-offset: 1px; }
#entry:has(textarea:focus-visible) { outline: 2px solid var(--color-accent); outline-offset: -1px; }
#entry textarea:focus-visible { outline: none !important; }
#entry .thumbnail-item .delete-button:focus-visible { opacity: 1; }
.extra-feedback:focus-within .extra-feedback-options { display: flex !important; }
footer { display: none !important; }
@media (max-width: 640px) {
  .gradio-container .fillable.app { padding-left: 12px !important; padding-right: 12px !important; }
  #chat .message-row { margin-left: 4px; margin-right: 4px; }
  #kind .wrap label { padding: 4px 8px; }
}
"""


def theme() -> gr.Theme:
    """Gradio's default theme, whose fonts are served by the page itself."""
    return gr.themes.Default(
        primary_hue="blue",
        secondary_hue="slate",
        neutral_hue="slate",
        # Of the half-bold faces that come along only a few letters are there.
        font=(
            gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)),
            "system-ui",
            "sans-serif",
        ),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"),
    ).set(
        # The greys and the blue of gradio's own are too faint to be read easily (WCAG AA: 4.5).
        body_text_color_subdued="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )
