/* Ask for the server's token, which is kept in this tab only. */

import { h } from "../dom.js";
import { token } from "../api.js";

/** Ask for the token, then reload the page, so that all requests and streams use it. */
export function askForToken() {
  if (document.querySelector("dialog.token[open]")) return;
  const input = h("input", {
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-label": "Token",
    id: "token",
  });
  const form = h(
    "form",
    {
      onsubmit: (event) => {
        event.preventDefault();
        token.keep(input.value.trim());
        location.reload();
      },
    },
    h("h1", {}, "This server needs a token"),
    token.read() && h("p.failed", { role: "alert" }, "The token is not valid for this server."),
    h(
      "p.soft",
      {},
      "Use the token that the server was started with. It is kept only in this tab, and " +
        "forgotten when the tab is closed.",
    ),
    h("label", { for: "token" }, "Token"),
    input,
    h("button.button.primary", {}, "Open"),
  );
  const dialog = h(
    "dialog.token",
    { "aria-label": "Token", oncancel: (event) => event.preventDefault() },
    form,
  );
  document.body.append(dialog);
  dialog.showModal();
}
