
// Takes over what has changed, in place: a reload would throw away a selection, and end at the first moment without a server.
const lost = document.getElementById("lost");
setInterval(async () => {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("live").replaceWith(fresh.getElementById("live"));
    document.title = fresh.title;
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
}, 3000);

// Tokens. The page may have been asked for with a credential in its address, which then goes with the request.
document.getElementById("token")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target), made = document.getElementById("made");
  const [app, room] = form.get("stream").split("/");
  const wish = { action: form.get("action"), app, room, for: form.get("for"), once: form.has("once") };
  if (form.get("viewers") && wish.action === "play") wish.viewers = Number(form.get("viewers"));
  const headers = { "Content-Type": "application/json" };
  const jwt = new URLSearchParams(location.search).get("jwt");
  if (jwt) headers.Authorization = "Bearer " + jwt;
  try {
    const answer = await fetch("/api/v1/tokens", { method: "POST", headers, body: JSON.stringify(wish), signal: AbortSignal.timeout(10000) });
    const said = await answer.json();
    made.textContent = answer.ok ? [said.token, ...said.urls].join("\n\n") : said.detail;
  } catch {
    made.textContent = "no answer from the server";
  }
  made.hidden = false;
});
