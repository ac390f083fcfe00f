"""Acts the cashier in Chromium: argument 1 is the address of the box, 2 the password of the seed, 3 its chip before the first."""

import sys
import time
from playwright.sync_api import expect, sync_playwright

BASE, PASSWORD, CHIP = sys.argv[1], sys.argv[2], int(sys.argv[3])
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
# A person's keys, a reader's keys, and the pause between keying an amount and tapping the card.
PERSON_MS, READER_MS, SETTLE_MS = 90, 2, 700
failures = []


def person(page, keys):
    page.keyboard.type(keys, delay=PERSON_MS)
    page.wait_for_timeout(SETTLE_MS)


def reader(page, text, hiccup_after=None, hiccup_ms=200, end="Enter"):
    """Trusted keys with the times a reader gives them, however busy this machine is."""
    keyboard = page.context.new_cdp_session(page)
    at_s = time.time()
    for n, key in enumerate(list(text) + [end]):
        at_s += (hiccup_ms if n == hiccup_after else READER_MS) / 1000
        down = {"key": key, "code": "Digit" + key, "text": key}
        if key == "Enter":
            down = {"key": key, "code": key, "text": "\r", "windowsVirtualKeyCode": 13}
        if key == "Tab":
            down = {"key": key, "code": key, "windowsVirtualKeyCode": 9}
        keyboard.send("Input.dispatchKeyEvent", {"type": "keyDown", "timestamp": at_s, **down})
        keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", "timestamp": at_s, "key": key, "code": down["code"]})
    keyboard.detach()


# What of the big panel, or of the list below it, stands outside of it.
OUTSIDE = """() => ['#result', '.last5'].flatMap(within => {
    const box = document.querySelector(within).getBoundingClientRect();
    const bottom = Math.min(box.bottom, innerHeight);
    return [...document.querySelectorAll(within + ' > *, ' + within + ' li')].filter(e => {
        const at = e.getBoundingClientRect();
        return at.height && (at.top < box.top || at.bottom > bottom + 1 || at.left < box.left || at.right > box.right + 1);
    }).map(e => e.textContent.trim() || 'the icon');
})"""


def shows(page, state, *texts):
    expect(page.locator("#till-left")).to_have_attribute("data-state", state, timeout=8000)
    for text in texts:
        expect(page.locator("#result")).to_contain_text(text)
    uncut(page, state)


def uncut(page, what):
    outside = page.evaluate(OUTSIDE)
    if outside:
        failures.append(f"{what} at {page.viewport_size}: cut off: {outside}")


CUT = """() => [...document.querySelectorAll('.main :is(button, a, td, th, input, .tag)')]
    .filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => (e.textContent || e.name).trim()).slice(0, 5)"""


def whole(page, what):
    cut = page.evaluate(CUT)
    if cut:
        failures.append(f"{what}: cut off: {cut}")


def card(n):
    return str(62004800 + n)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
    context = browser.new_context(locale="zh-CN", viewport={"width": 1024, "height": 768})
    page = context.new_page()
    page.on("pageerror", lambda error: failures.append(f"script error: {error}"))
    page.on("console", lambda line: failures.append(line.text) if "Content Security Policy" in line.text else None)
    page.goto(BASE + "/login")
    page.fill("#login", "wu")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/till")
    page.locator("form[action='/till/on'] button").first.click()
    page.wait_for_selector("#till")

    # Keys and reader are told apart; a tap without an amount sells nothing.
    reader(page, card(1))
    shows(page, "empty")
    # The headline follows what is keyed: an amount that is there is not asked for.
    person(page, "8")
    shows(page, "asking", "请刷卡", "¥8.00")
    page.keyboard.press("Backspace")
    shows(page, "ready", "请输入金额")
    person(page, "8+4.5")
    expect(page.locator("#till-sum")).to_have_text("¥12.50")
    shows(page, "asking", "¥12.50")
    page.keyboard.press("Enter")
    shows(page, "asking", "¥12.50")
    reader(page, card(1))
    shows(page, "approved", "¥12.50", "张*")
    expect(page.locator("#till-sum")).to_have_text("¥0.00")

    person(page, "5")
    reader(page, card(7))
    shows(page, "refused", "卡已挂失或冻结")
    # Another card may pay the same; the next customer's sum begins with its first digit.
    kept = page.locator("#till-sum").inner_text()
    person(page, "4")
    expect(page.locator("#till-sum")).to_have_text("¥4.00")
    if kept == "¥0.00":
        failures.append("a refused sum is gone before another card could pay it")
    page.keyboard.press("Delete")
    page.keyboard.press("Escape")
    expect(page.locator("#till-sum")).to_have_text("¥0.00")

    # A reading with a gap might be another card or another amount: nothing is sold.
    for hiccup in (1, 5, 7, 8):
        person(page, "5")
        reader(page, card(1), hiccup_after=hiccup)
        page.wait_for_timeout(300)
        expect(page.locator("#till-sum")).to_have_text("¥0.00")
        assert page.locator("#till-left").get_attribute("data-state") in ("unsure", "noise", "empty"), hiccup
        assert page.locator("#till-left").get_attribute("data-next") == "3", hiccup
        page.keyboard.press("Escape")

    # A card straight after the keys: the reading is as long as the ones before it, so the keys were the cashier's.
    page.keyboard.type("7.5", delay=PERSON_MS)
    page.wait_for_timeout(150)
    reader(page, card(6))
    shows(page, "approved", "¥7.50")

    # Half a reading that comes twice alike makes no third one sure.
    for _ in range(2):
        reader(page, card(6)[-4:])
        shows(page, "empty")
        page.wait_for_timeout(SETTLE_MS)
    before = page.locator("#till-left").get_attribute("data-next")
    page.keyboard.type("7.5", delay=PERSON_MS)
    page.wait_for_timeout(150)
    reader(page, card(6)[-4:])
    shows(page, "unsure")
    assert page.locator("#till-left").get_attribute("data-next") == before, "half a reading sold"
    page.keyboard.press("Escape")

    # What is beyond a limit is not taken, and said.
    for keys, state, total in (("9999", "over-sum", "¥999.00"), ("1.234", "over-cents", "¥1.23")):
        person(page, keys)
        shows(page, state)
        expect(page.locator("#till-sum")).to_have_text(total)
        page.keyboard.press("Delete")
    page.keyboard.press("F3")
    person(page, "3+100")
    shows(page, "over-portions")
    expect(page.locator("#till-sum")).to_have_text("¥30.00")
    page.keyboard.press("Delete")
    page.keyboard.press("F1")

    # The chip in hexadecimal, ended with Tab.
    person(page, "6")
    reader(page, f"{CHIP + 6:08X}", end="Tab")
    shows(page, "approved", "¥6.00")

    page.keyboard.press("F2")
    # A range of prices, as long as they come, pushes nothing out of its column.
    page.evaluate("document.getElementById('till-sum').textContent = '¥112.00–¥117.25'")
    edges = page.evaluate("""() => ['.till-amount', '#till-sum', '.keypad', '.till-modes']
        .map(s => document.querySelector(s).getBoundingClientRect().right)""")
    if max(edges) > 1024 - 16 + 1 or edges[0] != edges[2]:
        failures.append(f"the right column is pushed: {edges}")
    reader(page, card(2))
    shows(page, "approved", "¥9.00", "优惠")
    page.keyboard.press("F3")
    person(page, "3.5+2")
    expect(page.locator("#till-sum")).to_have_text("¥7.00")
    reader(page, card(3))
    shows(page, "approved", "¥7.00")

    # A scan into the question must not answer it; the button does.
    page.keyboard.press("-")
    expect(page.locator("#undo")).to_be_visible()
    reader(page, card(4))
    expect(page.locator("#undo")).to_be_visible()
    page.keyboard.press("Enter")
    shows(page, "undone", "-¥7.00")
    page.keyboard.press("-")
    expect(page.locator("#undo-none")).to_be_visible()
    page.keyboard.press("Escape")

    # Keyed too much: the last sale is reduced, the difference goes back, the receipt says so.
    page.click("[data-mode=amount]")
    person(page, "8")
    reader(page, card(3))
    shows(page, "approved", "¥8.00")
    page.click("[data-act=undo]")
    expect(page.locator("[data-act=reduce]")).to_be_disabled()
    page.fill("#reduce-to", "9")
    expect(page.locator("[data-act=reduce]")).to_be_disabled()
    page.fill("#reduce-to", "6.5")
    expect(page.locator("[data-act=reduce]")).to_contain_text("-¥1.50")
    page.click("[data-act=reduce]")
    shows(page, "undone", "-¥1.50")
    with context.expect_page() as opened:
        page.locator(".last5 a").first.click()
    receipt = opened.value
    expect(receipt.locator(".slip")).to_contain_text("¥6.50")
    expect(receipt.locator(".slip")).to_contain_text("陈")
    receipt.emulate_media(media="print")
    assert receipt.locator("[data-print]").is_hidden(), "the button is not for paper"
    receipt.close()
    # Keyed and clicked at once: the digits are the question's, none is left for the next sale. Enter answers it, too.
    for keyed, back in (("click", "-¥2.00"), ("enter", "-¥3.00")):
        person(page, "8")
        reader(page, card(3))
        shows(page, "approved", "¥8.00")
        page.click("[data-act=undo]")
        page.click("#reduce-to")
        if keyed == "click":
            page.keyboard.type("6")
            page.click("[data-act=reduce]")
        else:
            reader(page, "62")
            expect(page.locator("#undo")).to_be_visible()
            page.fill("#reduce-to", "")
            page.keyboard.type("5", delay=PERSON_MS)
            page.wait_for_timeout(PERSON_MS)
            page.keyboard.press("Enter")
        shows(page, "undone", back)
        page.wait_for_timeout(300)
        shows(page, "undone", back)
        expect(page.locator("#till-sum")).to_have_text("¥0.00")
    # The receipt took the keys; they are the till's again, whatever was touched last.
    person(page, "2")
    page.keyboard.press("Escape")

    # By touch, and a card typed by hand.
    page.click("[data-mode=amount]")
    page.click("[data-key='3']")
    page.click("[data-act=manual]")
    page.keyboard.type(card(4), delay=PERSON_MS)
    page.keyboard.press("Enter")
    shows(page, "approved", "¥3.00", "赵*")

    # The answer is lost after the box has sold: the same number is asked again and sold once.
    lost = {"times": 0}

    def swallow(route):
        lost["times"] += 1
        route.fetch()
        route.abort()

    page.route("**/till/sale", swallow, times=1)
    person(page, "4.5")
    reader(page, card(5))
    shows(page, "lost", "等待节点确认")
    shows(page, "approved", "¥4.50", "没有重复扣款")
    assert lost["times"] == 1

    # The box is away and the cashier gives up: never sold, also after a reload of the page.
    page.route("**/till/sale", lambda route: route.abort())
    person(page, "6")
    reader(page, card(6))
    shows(page, "lost")
    page.reload()
    shows(page, "lost")
    page.click("#result [data-act=cancel]")
    page.click("[data-act=cancel-sure]")
    shows(page, "undone", "没有扣款")
    page.unroute("**/till/sale")

    # All kinds of sale in the sums, five in the list, the longest results: on the small screens of canteens all of it is there.
    page.keyboard.press("F4")
    reader(page, card(2))
    shows(page, "approved", "计 1 餐")
    for width, height in ((1366, 768), (1280, 720), (1024, 768)):
        page.set_viewport_size({"width": width, "height": height})
        page.keyboard.press("F3")
        person(page, "1.5+2")
        reader(page, card(2))
        shows(page, "approved", "优惠", "1.50 × 2")
        page.click("[data-act=undo]")
        page.click("[data-act=correct]")
        shows(page, "undone", "已记负数一笔")
        page.keyboard.press("F1")
        person(page, "4")
        reader(page, card(7))
        shows(page, "refused", "卡已挂失或冻结")
        page.keyboard.press("Delete")
    page.set_viewport_size({"width": 1024, "height": 768})

    page.click("[data-act=off]")
    page.click("#off button[type=submit]")
    page.wait_for_url("**/till/shifts/**")
    expect(page.locator(".slip")).to_contain_text("¥60.00")

    # On a phone nothing to press or to read is cut off: the state of the box, and a person with sales to give back.
    phone = browser.new_context(locale="zh-CN", viewport={"width": 390, "height": 844}).new_page()
    phone.goto(BASE + "/login")
    phone.fill("#login", "lin")
    phone.fill("#password", PASSWORD)
    phone.keyboard.press("Enter")
    phone.wait_for_url("**/status")
    for lang in ["zh", "en"]:
        phone.goto(f"{BASE}/ui/lang/{lang}?back=/status")
        whole(phone, f"status in {lang}")
        phone.goto(BASE + "/cards/people/1")
        expect(phone.locator("button[hx-get*='/cards/refund/']").first).to_be_visible()
        whole(phone, f"a person in {lang}")
    # What to do about a door stands below its line, not squeezed into its first column.
    phone.set_viewport_size({"width": 1366, "height": 768})
    phone.goto(BASE + "/status")
    told = phone.locator("tr.told .cell-2").first.bounding_box()
    if told["width"] < 300:
        failures.append(f"a door's advice is {told['width']} px wide")
    browser.close()

if failures:
    sys.exit("\n".join(failures))
