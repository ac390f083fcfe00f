"""Acts clerk and chief in Chromium. Arguments: address, password, a person, the page of a sale that may be given back."""

import sys
from playwright.sync_api import expect, sync_playwright

BASE, PASSWORD, PERSON, SALE = sys.argv[1:5]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1366, "height": 768}
failures = []


def signed_in(browser, login, viewport):
    page = browser.new_context(locale="zh-CN", viewport=viewport).new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: failures.append(f"script error: {error}"))
    page.on("console", lambda line: failures.append(line.text) if "Content Security Policy" in line.text else None)
    page.goto(BASE + "/login")
    page.fill("#login", login)
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(BASE + "/")
    return page


def says(place, *texts):
    for text in texts:
        expect(place).to_contain_text(text, timeout=20_000)


def keeps_focus(page, what):
    """After a swap the keyboard is somewhere useful, not lost on the body."""
    if page.evaluate("document.activeElement === document.body"):
        failures.append(f"{what}: the focus is lost")


def fits(page, what):
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if wide > 0:
        failures.append(f"{what}: {wide} px wider than the screen")


CUT = """() => [...document.querySelectorAll('.main :is(button, a, td, th, input, .tag)')]
    .filter(e => e.offsetParent && !e.closest('.tabs') && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => (e.textContent || e.name).trim()).slice(0, 5)"""


def whole(page, what):
    """Nothing to press or to read is cut off at the edge of the screen."""
    cut = page.evaluate(CUT)
    if cut:
        failures.append(f"{what}: cut off: {cut}")
    fits(page, what)


def on_a_phone(page):
    for lang in ["zh", "en"]:
        page.goto(f"{BASE}/ui/lang/{lang}?back=/")
        for path in ["/", "/tariff", "/transactions", "/backups", f"/people/{PERSON}"]:
            page.goto(BASE + path)
            whole(page, f"{path} in {lang}")
        page.goto(BASE + "/transactions")
        for day in page.locator("input[type=date]").all():
            width = day.bounding_box()["width"]
            if width < 140:
                failures.append(f"a date has {width} px for its ten characters")
        lines = page.evaluate("[...document.querySelectorAll('.pager a')].map(e => e.getBoundingClientRect().height)")
        if any(height > 32 for height in lines):
            failures.append(f"an arrow of the pager stands on a line of its own: {lines}")
    page.goto(f"{BASE}/ui/lang/zh?back=/")


def on_paper(page):
    """A sheet says whose it is, what it shows and when it was printed."""
    page.goto(f"{BASE}/transactions?terminal=t1")
    head = page.locator(".print-head")
    expect(head).to_be_hidden()
    page.emulate_media(media="print")
    says(head, "–", "t1", "打印于 20")
    for path in ["/audit?who=clerk", f"/people/{PERSON}/statement"]:
        page.goto(BASE + path)
        expect(head).to_be_visible()
        says(head, "打印于 20")
    page.goto(f"{BASE}/audit?who=clerk")
    says(head, "clerk")
    page.emulate_media(media="screen")


def pay_out(page):
    page.goto(f"{BASE}/people/{PERSON}")
    page.click("button[hx-get$='/withdraw']")
    drawer = page.locator("#drawer")
    says(drawer, "提现金额", "在总部")
    keeps_focus(page, "withdrawal")
    page.fill("#drawer input[name=amount]", "0")
    page.click("#drawer button.is-primary")
    says(drawer, "金额须大于 0")
    page.fill("#drawer input[name=amount]", "20")
    page.fill("#drawer textarea", "离职")
    page.click("#drawer button.is-primary")
    says(drawer, "- ¥20.00", "离职")
    keeps_focus(page, "confirmation of a withdrawal")
    # Impatient: twice the same click is one payment.
    page.locator("#drawer button.is-danger").dblclick()
    says(drawer, "提现已入账", "剩余余额")
    with page.context.expect_page() as opened:
        page.click("#drawer a[href*='/slip/']")
    slip = opened.value
    says(slip.locator(".slip"), "提现凭条", "-20.00", "离职", "领款人签字")
    slip.emulate_media(media="print")
    assert slip.locator("[data-print]").is_hidden(), "the button is not for paper"
    slip.close()
    page.click("#drawer a[href*='/statement?at=']")
    says(page.locator("tr:target"), "提现", "离职")


def undo_a_top_up(page):
    page.goto(f"{BASE}/people/{PERSON}")
    page.click("button[hx-get$='/top-up']")
    page.click("#drawer button[name=amount][value='50']")
    page.click("#drawer button.is-large.is-primary")
    says(page.locator("#drawer"), "充值成功")
    page.goto(f"{BASE}/people/{PERSON}/statement")
    page.locator("button[hx-get*='/undo/']").first.click()
    modal = page.locator("#modal")
    says(modal, "撤销 ¥50.00")
    keeps_focus(page, "undoing")
    page.click("#modal button.is-danger")
    says(modal, "请写明原因")
    page.fill("#modal textarea", "录错了人")
    page.click("#modal button.is-danger")
    says(modal, "已撤销 ¥50.00")
    page.click("#modal a[href*='/statement?at=']")
    says(page.locator("tr:target"), "撤销充值", "录错了人", "-50.00")
    expect(page.locator("button[hx-get*='/undo/']")).to_have_count(0)
    fits(page, "statement")


def give_back(page):
    page.goto(BASE + SALE)
    page.click("button[hx-get$='/refund']")
    modal = page.locator("#modal")
    says(modal, "可退")
    page.click("#modal input[value=part]")
    page.fill("#modal input[name=amount]", "999")
    page.fill("#modal textarea", "菜是坏的")
    page.click("#modal button.is-primary")
    says(modal, "不超过可退的")
    page.fill("#modal input[name=amount]", "1.5")
    page.click("#modal button.is-primary")
    says(modal, "+ ¥1.50", "商户应付减少 ¥1.50")
    page.click("#modal button.is-danger")
    says(modal, "已退款 ¥1.50")
    page.click("#modal a.is-primary")
    says(page.locator(".timeline"), "总部退款 -1.50", "菜是坏的")
    fits(page, "sale")


def back_up(page):
    page.goto(BASE + "/backups")
    says(page.locator("#backups"), "还没有备份")
    page.click("button[hx-post='/backups']")
    # Without a reload: the part asks again by itself until it is done.
    says(page.locator("#backups"), "备份完成，已通过校验", "已校验")
    page.click("form[action='/backups/verify'] button")
    says(page.locator("#backups"), "校验通过")
    fits(page, "backups")
    page.goto(BASE + "/ui/lang/en?back=/backups")
    says(page.locator("#backups"), "Newest proved backup", "Proved")
    page.goto(BASE + "/recovery")
    says(page.locator("#recovery"), "Nothing is being recovered")
    fits(page, "recovery")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
    clerk = signed_in(browser, "clerk", DESK)
    pay_out(clerk)
    clerk.set_viewport_size(PHONE)
    undo_a_top_up(clerk)
    give_back(clerk)
    chief = signed_in(browser, "chief", PHONE)
    on_a_phone(chief)
    on_paper(chief)
    back_up(chief)
    browser.close()

if failures:
    sys.exit("\n".join(failures))
