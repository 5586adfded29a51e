package browser

import (
	"errors"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// checkAccessibility checks a page by axe-core.
func checkAccessibility(t *testing.T, p page, what string) {
	t.Helper()
	var findings []string
	if p.c.call(t, "/findings", map[string]any{"page": p.n}, &findings); len(findings) > 0 {
		t.Errorf("%s:\n%s", what, strings.Join(findings, "\n"))
	}
}

// check runs the body of an async function in Node that returns whether something is as it should.
func (p page) check(what, code string) {
	p.t.Helper()
	var ok bool
	if p.run(code, &ok); !ok {
		p.t.Errorf("does not hold: %s", what)
	}
}

// testControls uses everything that a person can use in the player page, at the size of a desktop
// and of a phone, in English and in Chinese, with a mouse, a finger and the keyboard.
func testControls(t *testing.T, c *chrome) {
	harness.Need(t, "ffmpeg")
	s := harness.Start(t, harness.Options{NoRace: true})
	s.PushTo(sample.Small.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.PushTo(clipNamed(t, "aac-only").File(t), s.RTMP(s.Key("radio")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	s.AwaitLive("radio")
	base := "http://" + s.Addr("httpflv_addr") + "/live/"

	t.Run("mouse and keyboard", func(t *testing.T) {
		p := c.openPlaying(t, base+"movie", nil)
		defer p.close()
		p.awaitMoving("playing")
		p.check("starts without sound, which the browser demands", `return page.evaluate(() =>
			document.querySelector('livego-player').muted)`)
		checkAccessibility(t, p, "playing")
		p.run(`await page.click('button.unmute')
			await page.waitForSelector('button.unmute', {state: 'hidden'})`, nil)
		p.check("plays with sound", `return page.evaluate(() => !document.querySelector('livego-player').muted)`)
		p.run(`for (const [key, muted] of [['m', true], ['m', false]]) {
			await page.keyboard.press(key)
			await page.waitForFunction((muted) => document.querySelector('livego-player').muted === muted, muted)
		}
		await page.keyboard.press('ArrowDown')
		await page.waitForFunction(() => Math.abs(document.querySelector('livego-player').volume - 0.9) < 0.01)
		await page.keyboard.press('k')
		await page.waitForSelector('button.start')
		await page.click('button.start')`, nil)
		p.awaitMoving("after a pause")
		p.run(`await page.mouse.move(200, 100)
			await page.waitForSelector('.root:not(.quiet)')
			await page.waitForSelector('.root.quiet')
			await page.waitForFunction(() => getComputedStyle(document.querySelector('livego-player').shadowRoot
				.querySelector('.bar')).opacity === '0')
			await page.mouse.move(210, 110)
			await page.waitForFunction(() => getComputedStyle(document.querySelector('livego-player').shadowRoot
				.querySelector('.bar')).opacity === '1')`, nil)
		p.run(`await page.focus('button.full') // controls that have the focus do not hide
			await page.click('button.full')
			await page.waitForFunction(() => document.fullscreenElement?.localName === 'livego-player')
			await page.keyboard.press('f')
			await page.waitForFunction(() => !document.fullscreenElement)
			await page.keyboard.press('p')
			await page.waitForFunction(() => document.querySelector('livego-player').shadowRoot.pictureInPictureElement)
			await page.focus('button.pip')
			await page.click('button.pip')
			await page.waitForFunction(() => !document.querySelector('livego-player').shadowRoot.pictureInPictureElement)`, nil)
		p.awaitMoving("after full screen and picture-in-picture")
	})

	t.Run("menu", func(t *testing.T) {
		p := c.openPlaying(t, base+"movie", map[string]any{"locale": "zh-CN"})
		defer p.close()
		p.awaitMoving("playing")
		p.run(`await page.waitForSelector('button.unmute >> text=打开声音')
			await page.focus('button.settings') // controls that have the focus do not hide
			await page.click('button.settings')
			await page.waitForSelector('legend >> text=协议')
			await page.check('input[name=statistics]')
			await page.waitForSelector('dl.info >> text=H.264, AAC')
			await page.waitForSelector('dl.info >> text=160 × 90')
			await page.waitForSelector('dl.info >> text=/^\\d+ kbit/')
			await page.check('input[name=language][value=en]')
			await page.waitForSelector('legend >> text=Protocol')`, nil)
		p.check("the page has the language of its player", `return page.evaluate(() =>
			document.documentElement.lang === 'en')`)
		checkAccessibility(t, p, "menu and statistics")
		p.run("await page.check('input[name=protocol][value=hls]')", nil)
		p.await("HLS", func(w watched) bool { return w.Phase == "playing" && w.Protocol == "hls" })
		p.run(`await page.waitForSelector('dl.info >> text=HLS')
			await page.keyboard.press('Escape')
			await page.waitForSelector('.menu', {state: 'hidden'})`, nil)
		p.check("the focus is on the button of the menu", `return page.evaluate(() =>
			document.querySelector('livego-player').shadowRoot.activeElement.className === 'settings')`)
	})

	t.Run("phone", func(t *testing.T) {
		p := c.open(t, base+"movie?muted=1", map[string]any{"viewport": map[string]int{"width": 360, "height": 640},
			"hasTouch": true, "isMobile": true, "locale": "zh-CN"})
		defer p.close()
		p.awaitMoving("playing")
		p.check("nothing is wider than the screen, and all buttons are large enough for a finger", `
			return page.evaluate(() => document.documentElement.scrollWidth <= 360 &&
				[...document.querySelector('livego-player').shadowRoot.querySelectorAll('button')]
					.filter((b) => b.checkVisibility()).every((b) => {
						const {left, right, width, height} = b.getBoundingClientRect()
						return left >= 0 && right <= 360 && width >= 44 && height >= 44
					}))`)
		p.run(`await page.waitForSelector('.root.quiet')
			await page.touchscreen.tap(180, 300)
			await page.waitForSelector('.root:not(.quiet)')
			await page.touchscreen.tap(180, 300)
			await page.waitForSelector('.root.quiet')`, nil)
		p.awaitMoving("a tap shows and hides the controls")
		p.run(`for (let n = 0; n < 20; n++) { // they hide again after a while
				await page.touchscreen.tap(180, 300)
				if (await page.tap('button.settings', {timeout: 2500}).then(() => true, () => false)) return
			}
			throw new Error('the controls do not stay')`, nil)
		checkAccessibility(t, p, "phone")
	})

	t.Run("audio only", func(t *testing.T) {
		p := c.open(t, base+"radio", nil)
		defer p.close()
		first := p.awaitText("Audio only")
		p.await("sound", func(w watched) bool {
			return w.Phase == "playing" && w.Time > first.Time+1 && w.Codecs == "mp4a.40.2"
		})
		checkAccessibility(t, p, "audio only")
	})

	t.Run("parameters", func(t *testing.T) {
		p := c.open(t, base+"movie?autoplay=0&poster=../.livego/icon.svg&lang=zh&protocol=hls", nil)
		p.run(`await page.waitForSelector('button.start[title=播放]')
			await page.waitForSelector('img.poster[src="../.livego/icon.svg"]')`, nil)
		p.check("nothing is played", `return page.evaluate(() =>
			document.querySelector('livego-player').state.phase === 'idle')`)
		checkAccessibility(t, p, "start")
		p.run("await page.click('button.start')", nil)
		if got := p.awaitMoving("started by a person"); got.Protocol != "hls" || got.Muted {
			t.Errorf("%+v", got)
		}
		p.run("await page.waitForSelector('img.poster', {state: 'hidden'})", nil)
		p.close()

		p = c.open(t, base+"movie?autoplay=0", nil)
		harness.Eventually(t, patience, "the thumbnail is the poster", func() error {
			var width int // a busy machine may not render it in time
			p.run(`return page.evaluate(async () => {
				const poster = document.querySelector('livego-player').shadowRoot.querySelector('img.poster')
				while (poster.hasAttribute('src') && !poster.complete) await new Promise((r) => setTimeout(r, 50))
				return poster.checkVisibility() ? poster.naturalWidth : 0
			})`, &width)
			if width > 0 {
				return nil
			}
			p.run("await page.reload()", nil)
			return errors.New("no picture")
		})
		p.close()

		p = c.open(t, base+"movie?autoplay=0", nil)
		p.run(`await page.addInitScript(() => {
				const {play} = HTMLMediaElement.prototype
				HTMLMediaElement.prototype.play = function () {
					return window.allowed ? play.call(this) : Promise.reject(new DOMException('', 'NotAllowedError'))
				}
			})
			await page.goto(page.url().replace('?autoplay=0', ''))
			await page.waitForSelector('button.start')
			await page.evaluate(() => (window.allowed = true))
			await page.click('button.start')`, nil)
		if got := p.awaitMoving("started by a person, as the browser refused to"); got.Muted {
			t.Error("a player that a person has started is muted")
		}
		p.close()

		// Chromium plays HLS by itself since 142.
		p = c.open(t, base+"movie?protocol=native", nil)
		var native bool
		p.run("return page.evaluate(() => !!document.createElement('video').canPlayType('application/vnd.apple.mpegurl'))",
			&native)
		if got := p.awaitMoving("HLS by the browser"); (got.Protocol == "native") != native {
			t.Errorf("HLS by the browser is %v: %+v", native, got)
		}
		p.close()

		p = c.open(t, base+"movie?controls=0&muted=1", nil)
		p.awaitMoving("without controls")
		p.check("there are no controls", `return !await page.isVisible('.bar') && !await page.isVisible('button.unmute')`)
		p.run(`await page.keyboard.press('m')
			await page.waitForFunction(() => !document.querySelector('livego-player').muted)`, nil)
		p.close()
	})

	t.Run("names that look like markup", func(t *testing.T) {
		const markup = "%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E"
		p := c.open(t, base+markup, nil)
		p.check("no room has such a name", `const response = await page.reload()
			return response.status() === 404 && response.headers()['content-type'].startsWith('text/plain')`)
		p.close()
		p = c.open(t, base+"nobody?token="+markup+"&lang="+markup+"&protocol="+markup+"&poster="+markup+"#"+markup, nil)
		defer p.close()
		p.awaitText("The stream has not started yet. It starts here by itself.")
		p.check("parameters are no markup", `return page.evaluate(() => document.querySelectorAll('img').length === 0 &&
			document.querySelector('livego-player').shadowRoot.querySelectorAll('img').length === 1)`)
		checkAccessibility(t, p, "offline")
	})
}
