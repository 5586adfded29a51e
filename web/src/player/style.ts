// The styles of the player, as a sheet that all players of a page share.

const css = `
:host { display: block; position: relative; aspect-ratio: 16 / 9; overflow: hidden; background: #000; color: #fff;
  font: 15px/1.4 system-ui, sans-serif; outline: none; user-select: none; container-type: inline-size;
  --accent: var(--livego-accent, #ff4757); }
:host([hidden]) { display: none; }
:host(:fullscreen) { aspect-ratio: auto; width: 100%; height: 100%; }
:host(:focus-visible) { box-shadow: inset 0 0 0 2px #fff; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
video, .still, .poster { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.poster { object-fit: cover; }
.message { position: absolute; inset: 0; display: flex; flex-direction: column; align-items: center;
  justify-content: center; gap: 4px; padding: 24px; text-align: center; background: rgb(0 0 0 / .55);
  text-wrap: balance; pointer-events: none; }
.message.quiet { background: none; }
.message strong { font-size: 17px; font-weight: 600; }
.message span { color: #ccc; }
.spinner { width: 44px; height: 44px; margin-bottom: 12px; border: 3px solid rgb(255 255 255 / .25);
  border-top-color: #fff; border-radius: 50%; animation: turn 1s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .spinner { animation-duration: 4s; } }
button { display: inline-flex; align-items: center; justify-content: center; gap: 8px; padding: 0; border: 0;
  border-radius: 8px; background: none; color: inherit; font: inherit; cursor: pointer; }
button:focus-visible, input:focus-visible { outline: 2px solid #fff; outline-offset: -2px; }
svg { width: 24px; height: 24px; fill: currentColor; flex: none; }
.start { position: absolute; inset: 0; width: 100%; border-radius: 0; }
.start span { display: grid; place-items: center; width: 76px; height: 76px; border-radius: 50%;
  background: rgb(0 0 0 / .65); }
.start svg { width: 40px; height: 40px; }
.start:hover span { background: var(--accent); }
.unmute { position: absolute; top: 12px; left: 12px; min-height: 44px; padding: 0 16px; border-radius: 22px;
  background: #fff; color: #111; font-weight: 600; }
.info { position: absolute; top: 12px; right: 12px; padding: 10px 14px; border-radius: 8px;
  background: rgb(0 0 0 / .75); font-size: 13px; font-variant-numeric: tabular-nums; }
.info dl { display: grid; grid-template-columns: auto auto; gap: 2px 16px; margin: 0; }
.info dt { color: #bbb; }
.info dd { margin: 0; text-align: right; }
.info button { margin-top: 8px; min-height: 28px; text-decoration: underline; }
.bar { position: absolute; inset: auto 0 0; display: flex; align-items: center; gap: 2px; padding: 28px 8px 4px;
  background: linear-gradient(transparent, rgb(0 0 0 / .75)); transition: opacity .2s; }
.bar button { width: 44px; height: 44px; }
.bar button:hover { background: rgb(255 255 255 / .15); }
.live { display: flex; align-items: center; gap: 6px; margin: 0 auto 0 8px; font-size: 12px; font-weight: 700;
  letter-spacing: .04em; }
.live::before { content: ''; width: 8px; height: 8px; border-radius: 50%; background: #888; }
.live.on::before { background: var(--accent); }
input { width: 84px; accent-color: #fff; }
@container (max-width: 420px) { input { display: none; } }
:host(.still-pointer) { cursor: none; }
:host(.still-pointer) .bar { opacity: 0; }
:host(.still-pointer) .bar:focus-within { opacity: 1; }
`

let sheet: CSSStyleSheet | undefined

/** Returns the styles of the player. */
export function styles(): CSSStyleSheet {
  if (!sheet) {
    sheet = new CSSStyleSheet()
    sheet.replaceSync(css)
  }
  return sheet
}
