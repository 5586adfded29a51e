
// Takes over what has changed, in place: a reload would throw away a selection, and end at the first moment without a server.
const lost = document.getElementById("lost");
setInterval(async () => {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(4000) });
    if (answer.status === 403) location.reload(); // the session is over
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("live").replaceWith(fresh.getElementById("live"));
    document.title = fresh.title;
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
}, 3000);

// What a request needs: a page that was asked for with a credential in its address sends it along, one of a session shows the token.
function credential() {
  const headers = {};
  const jwt = new URLSearchParams(location.search).get("jwt");
  const csrf = document.querySelector("meta[name=csrf-token]");
  if (jwt) headers.Authorization = "Bearer " + jwt;
  if (csrf) headers["X-CSRF-Token"] = csrf.content;
  return headers;
}

// Sends a request and shows in element what text makes of the answer.
async function show(element, path, headers, body, text) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { ...credential(), ...headers }, body, signal: AbortSignal.timeout(10000) });
    element.textContent = text(answer.ok, await answer.json());
  } catch {
    element.textContent = "no answer from the server";
  }
  element.hidden = false;
}

document.getElementById("key")?.addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("shown"), "control/get", {}, new URLSearchParams(new FormData(event.target)), (_, said) => said.data);
});

document.getElementById("token")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const [app, room] = form.get("stream").split("/");
  const wish = { action: form.get("action"), app, room, for: form.get("for"), once: form.has("once") };
  if (form.get("viewers") && wish.action === "play") wish.viewers = Number(form.get("viewers"));
  show(document.getElementById("made"), "api/v1/tokens", { "Content-Type": "application/json" }, JSON.stringify(wish),
    (ok, said) => ok ? [said.token, ...said.urls].join("\n\n") : said.detail);
});
