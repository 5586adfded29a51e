// The styles of the player, as a sheet that all players of a page share.

const css = `
:host { display: block; position: relative; aspect-ratio: 16 / 9; overflow: hidden; background: #0b0d12; color: #fff;
  font: 15px/1.4 system-ui, sans-serif; outline: none; user-select: none; -webkit-user-select: none;
  -webkit-tap-highlight-color: transparent; container-type: size; --accent: var(--livego-accent, #e5383b); }
:host([hidden]) { display: none; }
:host(:fullscreen) { aspect-ratio: auto; width: 100%; height: 100%; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.root { position: absolute; inset: 0; overflow: hidden; background: inherit; direction: ltr; }
:host(:focus-visible) .root::after { content: ''; position: absolute; inset: 0; border: 3px solid #6cb2ff;
  pointer-events: none; }
video, .still, .poster { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.poster { object-fit: cover; }

.message { position: absolute; inset: 0; display: flex; flex-direction: column; align-items: center;
  justify-content: center; gap: 20px; padding: 24px 24px 48px; text-align: center; text-wrap: balance;
  background: radial-gradient(circle at 50% 40%, #232a38, #0b0d12 75%); animation: appear .3s .2s backwards; }
.message[data-over=picture], .message[data-over=poster] { background: rgb(8 10 14 / .62); }
.message[data-over=picture] { text-shadow: 0 1px 3px rgb(0 0 0 / .6); }
.message .text { display: flex; flex-direction: column; gap: 2px; max-width: 34em; }
.message strong { font-size: 18px; font-weight: 600; }
.message .text span { color: #c8cdd6; }
.picture { display: grid; place-items: center; width: 64px; height: 64px; border-radius: 50%; }
.picture svg { width: 34px; height: 34px; }
.picture:not([data-picture=spinner]) { background: rgb(255 255 255 / .1); }
.pulses { position: relative; }
.pulses::after { content: ''; position: absolute; inset: 0; border: 2px solid rgb(255 255 255 / .5);
  border-radius: 50%; animation: pulse 2.4s ease-out infinite; }
.spinner { width: 46px; height: 46px; border: 4px solid rgb(255 255 255 / .25); border-top-color: #fff;
  border-radius: 50%; animation: turn .9s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }
@keyframes pulse { to { transform: scale(1.7); opacity: 0; } }
@keyframes appear { from { opacity: 0; } }
@media (prefers-reduced-motion: reduce) {
  .spinner { animation-duration: 4s; }
  .pulses::after { animation: none; }
}

button { display: inline-flex; align-items: center; justify-content: center; gap: 8px; padding: 0; border: 0;
  border-radius: 8px; background: none; color: inherit; font: inherit; cursor: pointer; }
button:focus-visible, input:focus-visible { outline: 3px solid #6cb2ff; outline-offset: -3px; }
svg { width: 24px; height: 24px; fill: currentColor; flex: none; }
.start { position: absolute; inset: 0; width: 100%; border-radius: 0; }
.start span { display: grid; place-items: center; width: 80px; height: 80px; border-radius: 50%;
  background: rgb(0 0 0 / .6); box-shadow: 0 0 0 2px rgb(255 255 255 / .85);
  transition: background .15s, transform .15s; }
.start svg { width: 44px; height: 44px; }
.start:hover span { background: var(--accent); transform: scale(1.06); }
.again { min-height: 44px; padding: 0 22px; border-radius: 22px; background: rgb(255 255 255 / .16); font-weight: 600; }
.again:hover { background: rgb(255 255 255 / .28); }

.top { position: absolute; inset: 12px 12px auto; display: flex; flex-wrap: wrap; align-items: flex-start; gap: 10px;
  pointer-events: none; }
.top > * { pointer-events: auto; }
.unmute { min-height: 48px; padding: 0 20px 0 16px; border-radius: 24px; background: #fff; color: #111;
  font-size: 16px; font-weight: 600; box-shadow: 0 2px 12px rgb(0 0 0 / .35); }
.unmute:hover { background: #e8ecf2; }
.unmute:focus-visible { outline-color: #1667c7; }
.info { display: grid; grid-template-columns: auto auto; gap: 3px 20px; margin: 0; padding: 12px 16px;
  border-radius: 10px; background: rgb(12 14 20 / .86); font-size: 13px; font-variant-numeric: tabular-nums; }
.info dt { color: #b4bac5; }
.info dd { margin: 0; text-align: right; }

.bar { position: absolute; inset: auto 0 0; display: flex; align-items: center; gap: 2px; padding: 44px 10px 6px;
  background: linear-gradient(transparent, rgb(0 0 0 / .72)); transition: opacity .2s; pointer-events: none; }
.bar > * { pointer-events: auto; }
.bar button { width: 44px; height: 44px; transition: background .15s; }
.bar button:hover, .bar button[aria-expanded=true] { background: rgb(255 255 255 / .16); }
.bar .toggle svg { width: 30px; height: 30px; }
.live { display: flex; align-items: center; gap: 7px; margin: 0 auto 0 10px; font-size: 12px; font-weight: 700;
  letter-spacing: .05em; color: #c8cdd6; }
.live::before { content: ''; width: 9px; height: 9px; border-radius: 50%; background: #8a909c; }
.live.on { color: #fff; }
.live.on::before { background: var(--accent); }
.live[hidden] + button { margin-left: auto; }
.volume { width: 88px; height: 44px; margin: 0 4px; padding: 0; background: none; appearance: none; cursor: pointer; }
.volume::-webkit-slider-runnable-track { height: 4px; border-radius: 2px; background: rgb(255 255 255 / .4); }
.volume::-webkit-slider-thumb { appearance: none; width: 14px; height: 14px; margin-top: -5px; border-radius: 50%;
  background: #fff; }
.volume::-moz-range-track { height: 4px; border-radius: 2px; background: rgb(255 255 255 / .4); }
.volume::-moz-range-progress { height: 4px; border-radius: 2px; background: #fff; }
.volume::-moz-range-thumb { width: 14px; height: 14px; border: 0; border-radius: 50%; background: #fff; }

.menu { position: absolute; right: 10px; bottom: 58px; width: min(240px, 100% - 20px); max-height: calc(100% - 68px);
  overflow: auto; padding: 6px; border-radius: 12px; background: rgb(20 23 31 / .96);
  box-shadow: 0 8px 28px rgb(0 0 0 / .45); font-size: 14px; }
.group { margin: 0; padding: 6px 0; border: 0; }
.group + .group { border-top: 1px solid rgb(255 255 255 / .12); }
.group legend { float: left; width: 100%; padding: 2px 10px; color: #b4bac5; font-size: 12px; }
.group label { display: flex; align-items: center; gap: 10px; clear: both; min-height: 38px; padding: 0 10px;
  border-radius: 8px; cursor: pointer; }
.group label:hover { background: rgb(255 255 255 / .1); }
.group input { width: 16px; height: 16px; margin: 0; accent-color: var(--accent); }

.root.quiet { cursor: none; }
.root.quiet .bar:not(:focus-within) { opacity: 0; }
.root.quiet .bar:not(:focus-within) > * { pointer-events: none; }

@container (max-width: 420px) {
  .volume { display: none; }
  .unmute { min-height: 44px; }
  .info { gap: 2px 14px; padding: 8px 12px; font-size: 12px; }
}
@container (max-height: 240px) {
  .picture { width: 40px; height: 40px; }
  .picture svg { width: 22px; height: 22px; }
  .spinner { width: 32px; height: 32px; }
  .message { gap: 6px; padding: 8px 8px 40px; }
  .message strong { font-size: 15px; }
  .message .text span { font-size: 13px; }
  .start span { width: 56px; height: 56px; }
  .top { flex-wrap: nowrap; }
  .unmute { padding: 0 14px 0 12px; font-size: 15px; flex: none; }
  .info { gap: 0 10px; padding: 6px 10px; font-size: 11px; line-height: 1.3; }
}
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
