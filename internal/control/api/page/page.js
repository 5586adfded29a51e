
// Updates the list of streams in place: a reload would drop a selection, and would stop at the first failed request.
const lost = document.getElementById("lost");
setInterval(async () => {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const response = await fetch(location.href, { signal: AbortSignal.timeout(4000) });
    if (response.status === 403) location.reload(); // the session has expired
    if (!response.ok) throw new Error(response.status);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    document.getElementById("live").replaceWith(fresh.getElementById("live"));
    document.title = fresh.title;
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
}, 3000);

// Returns the headers that authenticate a request: the JWT in the page's URL, or the CSRF token of the session.
function credential() {
  const headers = {};
  const jwt = new URLSearchParams(location.search).get("jwt");
  const csrf = document.querySelector("meta[name=csrf-token]");
  if (jwt) headers.Authorization = "Bearer " + jwt;
  if (csrf) headers["X-CSRF-Token"] = csrf.content;
  return headers;
}

// Sends a request and shows the text of its response in element.
async function show(element, path, headers, body, text) {
  try {
    const response = await fetch(path, { method: "POST", headers: { ...credential(), ...headers }, body, signal: AbortSignal.timeout(10000) });
    element.textContent = text(response.ok, await response.json());
  } catch {
    element.textContent = "no response from the server";
  }
  element.hidden = false;
}

document.getElementById("key")?.addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("shown"), "control/get", {}, new URLSearchParams(new FormData(event.target)), (_, result) => result.data);
});

document.getElementById("token")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const [app, room] = form.get("stream").split("/");
  const request = { action: form.get("action"), app, room, for: form.get("for"), once: form.has("once") };
  if (form.get("viewers") && request.action === "play") request.viewers = Number(form.get("viewers"));
  show(document.getElementById("made"), "api/v1/tokens", { "Content-Type": "application/json" }, JSON.stringify(request),
    (ok, result) => ok ? [result.token, ...result.urls].join("\n\n") : result.detail);
});
