//! What every page knows: words, language, theme, operator, menu, time of its data.
//!
//! [`Ui`] is the extractor of a handler, [`Page`] the context its template renders with.

use std::fmt;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use time::{OffsetDateTime, UtcOffset};

use crate::assets;
use crate::auth::{CurrentOperator, Role};
use crate::error::UiError;
use crate::lang::{Lang, Words};

/// What a product hands to the kit once, at start.
#[derive(Debug, Clone)]
pub struct Kit {
    /// Key of the product's name ("一卡通总部"), shown beside the logo.
    pub product_key: &'static str,
    /// Name of this node as its operators call it ("东校区 A1 盒"); may be empty.
    pub node_name: String,
    /// Menu in two levels.
    pub menu: Vec<MenuGroup>,
    /// Paths that operators of a single campus do not reach, so that the menu does not offer them.
    pub free_only: Vec<&'static str>,
    /// Words of kit and product.
    pub words: Words,
    /// Address of the global search (GET, parameter `q`); `None` hides the box.
    pub search_action: Option<&'static str>,
    /// Key of the words in its box: what can be searched for here.
    pub search_hint: &'static str,
    /// Roles that see the search box; empty for everybody.
    pub search_roles: &'static [Role],
    /// Whether cookies carry `Secure`, that is, whether browsers reach the console by TLS.
    pub tls: bool,
    /// Civil time shown to operators, minutes east of UTC.
    pub utc_offset_minutes: i16,
    /// Extra style sheet URLs for every page of this product, in layer `product`.
    pub styles: Vec<String>,
    /// Extra script URLs for every page of this product (served from `'self'`).
    pub scripts: Vec<String>,
    /// Key of the words that say where passwords are changed, if not here; there is no form then.
    pub passwords_elsewhere: Option<&'static str>,
    /// Key of the words that say, to everybody whose sign-in is refused, what else may be the cause than a wrong word.
    pub sign_in_hint: Option<&'static str>,
    /// What every page says at its top as long as there is something to say.
    pub notice: NoticeSource,
    /// Where the node's name and civil time are asked at every page; as set here when there is no source.
    pub place: PlaceSource,
}

/// What may change of a node while its console runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As [`Kit::node_name`].
    pub node_name: String,
    /// As [`Kit::utc_offset_minutes`].
    pub utc_offset_minutes: i16,
}

/// Where the place of a node comes from: asked at every page, so it must be quick.
#[derive(Clone, Default)]
pub struct PlaceSource(Option<Arc<dyn Fn() -> Place + Send + Sync>>);

impl PlaceSource {
    /// Asks this function.
    pub fn new(source: impl Fn() -> Place + Send + Sync + 'static) -> PlaceSource {
        PlaceSource(Some(Arc::new(source)))
    }
}

impl fmt::Debug for PlaceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlaceSource({})", self.0.is_some())
    }
}

/// Something that concerns whoever is signed in, on whatever page he is.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Colour and icon.
    pub tone: Tone,
    /// First line, in the operator's language.
    pub title: String,
    /// Second line.
    pub text: String,
    /// Page that says more.
    pub href: &'static str,
    /// Its name in the operator's language.
    pub link: String,
}

/// Where the notice of a page comes from: asked at every page, so it must be quick.
#[derive(Clone, Default)]
pub struct NoticeSource(Option<Arc<NoticeFn>>);

type NoticeFn = dyn Fn(&Ui) -> Option<Notice> + Send + Sync;

impl NoticeSource {
    /// Asks this function.
    pub fn new(source: impl Fn(&Ui) -> Option<Notice> + Send + Sync + 'static) -> NoticeSource {
        NoticeSource(Some(Arc::new(source)))
    }
}

impl fmt::Debug for NoticeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoticeSource({})", self.0.is_some())
    }
}

impl Kit {
    /// A kit with the given name, menu and words and the usual settings of a site in China.
    pub fn new(product_key: &'static str, menu: Vec<MenuGroup>, words: Words) -> Kit {
        Kit {
            product_key,
            node_name: String::new(),
            menu,
            free_only: Vec::new(),
            words,
            search_action: None,
            search_hint: "ui.search",
            search_roles: &[],
            tls: true,
            utc_offset_minutes: 480,
            styles: Vec::new(),
            scripts: Vec::new(),
            passwords_elsewhere: None,
            sign_in_hint: None,
            notice: NoticeSource::default(),
            place: PlaceSource::default(),
        }
    }

    /// The same kit as of this moment, if the node's place has changed.
    pub(crate) fn moved(&self) -> Option<Kit> {
        let place = self.place.0.as_ref().map(|source| source())?;
        if (place.node_name.as_str(), place.utc_offset_minutes) == (&self.node_name, self.utc_offset_minutes) {
            return None;
        }
        let Place { node_name, utc_offset_minutes } = place;
        Some(Kit { node_name, utc_offset_minutes, ..self.clone() })
    }
}

/// First level of the menu.
#[derive(Debug, Clone)]
pub struct MenuGroup {
    /// Key of its label.
    pub label: &'static str,
    /// Name of its icon in the sprite.
    pub icon: &'static str,
    /// Second level.
    pub items: Vec<MenuItem>,
}

/// Second level of the menu.
#[derive(Debug, Clone)]
pub struct MenuItem {
    /// Path of the page; also its identity for [`Page::active`].
    pub href: &'static str,
    /// Key of its label.
    pub label: &'static str,
    /// Roles that see it; empty for everybody.
    pub roles: &'static [Role],
}

/// Colour scheme: fixed, or as the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// Follows the system.
    #[default]
    Auto,
    /// Always light.
    Light,
    /// Always dark.
    Dark,
}

impl Theme {
    /// Every theme in the order of the switch.
    pub const ALL: [Theme; 3] = [Theme::Auto, Theme::Light, Theme::Dark];

    /// Reads the code of the cookie.
    pub fn from_code(code: &str) -> Option<Theme> {
        Theme::ALL.into_iter().find(|theme| theme.code() == code)
    }

    /// Code in cookie, URL and `data-theme`.
    pub fn code(self) -> &'static str {
        match self {
            Theme::Auto => "auto",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    /// The theme that the switch offers next.
    pub fn next(self) -> Theme {
        match self {
            Theme::Auto => Theme::Light,
            Theme::Light => Theme::Dark,
            Theme::Dark => Theme::Auto,
        }
    }

    /// Icon of the theme.
    pub fn icon(self) -> &'static str {
        match self {
            Theme::Auto => "sun-moon",
            Theme::Light => "sun",
            Theme::Dark => "moon",
        }
    }
}

/// Meaning of a coloured thing. The colour is never its only sign: an icon or a word goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Neutral.
    #[default]
    Plain,
    /// Something going on.
    Info,
    /// As it should be.
    Ok,
    /// Look at it.
    Warn,
    /// Wrong, refused or lost.
    Bad,
}

impl Tone {
    /// CSS suffix.
    pub fn code(self) -> &'static str {
        match self {
            Tone::Plain => "plain",
            Tone::Info => "info",
            Tone::Ok => "ok",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
        }
    }

    /// Icon that goes with the tone.
    pub fn icon(self) -> &'static str {
        match self {
            Tone::Plain | Tone::Info => "info",
            Tone::Ok => "circle-check",
            Tone::Warn => "triangle-alert",
            Tone::Bad => "circle-x",
        }
    }
}

/// One step of the breadcrumb; the last one has no address.
#[derive(Debug, Clone)]
pub struct Crumb {
    /// Text, already in the operator's language.
    pub text: String,
    /// Address, if it leads somewhere.
    pub href: Option<String>,
}

/// An entry of a drop-down list.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Value sent.
    pub value: String,
    /// Text shown.
    pub text: String,
}

/// Time up to which the data of a page are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf {
    /// The time as text, in the operator's civil time.
    pub text: String,
    /// Whether the data are older than they should be.
    pub stale: bool,
}

/// A short message that goes away by itself.
#[derive(Debug, Clone)]
pub struct Toast {
    /// Colour and icon.
    pub tone: Tone,
    /// Text in the operator's language.
    pub text: String,
}

impl Toast {
    /// Value of the `HX-Trigger` response header that shows this toast after an htmx request. Header
    /// values are ASCII, so other characters are escaped as JSON allows.
    pub fn trigger(&self) -> String {
        let mut text = String::new();
        for unit in self.text.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("\\u{unit:04x}")),
            }
        }
        format!(r#"{{"toast":{{"tone":"{}","text":"{text}"}}}}"#, self.tone.code())
    }
}

/// An icon of the sprite, printed as markup.
#[derive(Debug, Clone)]
pub struct Icon<'a>(pub &'a str);

impl fmt::Display for Icon<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let safe = self.0.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let name = if safe { self.0 } else { "circle-alert" };
        write!(f, r##"<svg class="icon" aria-hidden="true"><use href="{}#{name}"/></svg>"##, assets::url("icons.svg"))
    }
}

impl askama::filters::HtmlSafe for Icon<'_> {}

/// What a handler knows about the browser and the operator; the extractor of every page.
#[derive(Debug, Clone)]
pub struct Ui {
    /// The product's settings.
    pub kit: Arc<Kit>,
    /// Port that the browser asked, where it named one: cookies are told apart by it.
    pub port: Option<u16>,
    /// Language by cookie.
    pub lang: Lang,
    /// Theme by cookie.
    pub theme: Theme,
    /// Campus scope by cookie; the product checks that it exists and is allowed.
    pub campus: Option<String>,
    /// Whether the desktop menu is folded.
    pub menu_folded: bool,
    /// Who is signed in.
    pub operator: Option<CurrentOperator>,
    /// Token that every form sends as `_csrf`, masked anew for each page.
    pub csrf: String,
    /// Path and query of the request.
    pub path: String,
    /// Whether the request only reads (GET, HEAD), so that repeating it is harmless.
    pub reads: bool,
    /// Whether htmx asked, so that a fragment is wanted.
    pub htmx: bool,
    /// Wall clock at the start of the request, milliseconds since 1970 (UTC).
    pub now_ms: i64,
    /// Id that log lines and error pages of this request share.
    pub trace_id: String,
}

impl Ui {
    /// The text of a key in the operator's language.
    pub fn t<'a>(&'a self, key: &'a str) -> &'a str {
        self.kit.words.t(self.lang, key)
    }

    /// The text of a key with its places filled.
    pub fn t_args(&self, key: &str, args: &[(&str, &str)]) -> String {
        self.kit.words.t_args(self.lang, key, args)
    }

    /// Name under which the browser keeps a cookie of this console.
    pub(crate) fn cookie_name(&self, name: &str) -> String {
        crate::console::cookie_name(self.kit.tls, self.port, name)
    }

    /// Context of the page with this title key, marked in the menu under `active`.
    ///
    /// The breadcrumb starts as menu group and item (found by `active`); data are as of this moment
    /// until the handler says otherwise.
    pub fn page(&self, title_key: &str, active: &str) -> Page {
        let mut crumbs = Vec::new();
        for group in &self.kit.menu {
            if let Some(item) = group.items.iter().find(|item| item.href == active) {
                crumbs.push(Crumb { text: self.t(group.label).to_owned(), href: None });
                crumbs.push(Crumb { text: self.t(item.label).to_owned(), href: Some(item.href.to_owned()) });
            }
        }
        Page {
            title: self.t(title_key).to_owned(),
            active: active.to_owned(),
            crumbs,
            campuses: Vec::new(),
            as_of: Some(AsOf { text: self.clock_text(self.now_ms), stale: false }),
            toast: None,
            alerts: 0,
            notice: self.operator.as_ref().and(self.kit.notice.0.as_ref()).and_then(|source| source(self)),
            ui: self.clone(),
        }
    }

    /// A price class of holders: the customary ones by name, others by number.
    pub fn category(&self, number: u16) -> String {
        let key = format!("category.{number}");
        match self.kit.words.has(&key) {
            true => self.t(&key).to_owned(),
            false => self.t_args("category.other", &[("n", &number.to_string())]),
        }
    }

    /// An alarm's short word; one that is not known here stays as the box wrote it.
    pub fn alarm(&self, kind: &str) -> String {
        let key = format!("alarm.{kind}");
        if self.kit.words.has(&key) { self.t(&key).to_owned() } else { kind.to_owned() }
    }

    /// What an alarm says. Boxes write English for the journal; other languages get the facts of it and their own words.
    pub fn alarm_detail(&self, kind: &str, detail: &str) -> String {
        let key = format!("alarm.{kind}.text");
        if self.lang == Lang::En || !self.kit.words.has(&key) || !reads_english(detail) {
            return detail.to_owned();
        }
        // Door alarms begin with the name of what they are about, whatever language that is in.
        let names_first = NAMED_ALARMS.iter().any(|head| kind.starts_with(head));
        let (about, rest) = match detail.split_once(": ") {
            Some((about, rest)) if names_first || !reads_english(about) => (about, rest),
            _ => ("", detail),
        };
        let mut facts = facts_of(rest);
        let words = self.t(&key);
        let counted = facts.iter().position(|fact| fact.bytes().all(|b| b.is_ascii_digit()));
        let words = match counted.filter(|_| words.contains("{n}")) {
            Some(at) => self.t_args(&key, &[("n", facts.remove(at))]),
            None => words.to_owned(),
        };
        let about = std::iter::once(about).filter(|about| !about.is_empty());
        about.chain(facts).chain([words.as_str()]).collect::<Vec<_>>().join(" ")
    }

    /// What an act at a box was about. Boxes write it for the journal, in English; others get the facts of it.
    pub fn act_detail(&self, detail: &str) -> String {
        if self.lang == Lang::En {
            return detail.to_owned();
        }
        let bare = |target: &str| target.split_once(':').map_or(target, |(_, number)| number).to_owned();
        if let Some((terminal, _)) = detail.split_once(" boot ") {
            return terminal.to_owned();
        }
        if let Some((target, reason)) = detail.split_once(" as ") {
            let key = format!("act.as.{}", reason.to_lowercase());
            return if self.kit.words.has(&key) {
                format!("{} · {}", bare(target), self.t(&key))
            } else {
                detail.to_owned()
            };
        }
        if let Some((target, (lifted, left))) = detail.split_once(": ").and_then(|(target, rest)| {
            let (lifted, rest) = rest.split_once(" lifted, ")?;
            Some((target, (lifted, rest.split_once(" left")?.0)))
        }) {
            return format!("{} · {}", bare(target), self.t_args("act.lifted", &[("n", lifted), ("left", left)]));
        }
        detail.to_owned()
    }

    /// The time of this request, as operators read it.
    pub fn now_text(&self) -> String {
        self.time_text(self.now_ms)
    }

    /// A time as operators read it: `2026-11-24 12:31:05`.
    pub fn time_text(&self, utc_ms: i64) -> String {
        let t = self.civil(utc_ms);
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }

    /// The clock part of a time: `12:31:05`.
    pub fn clock_text(&self, utc_ms: i64) -> String {
        let t = self.civil(utc_ms);
        format!("{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second())
    }

    fn civil(&self, utc_ms: i64) -> OffsetDateTime {
        let offset =
            UtcOffset::from_whole_seconds(i32::from(self.kit.utc_offset_minutes) * 60).unwrap_or(UtcOffset::UTC);
        OffsetDateTime::from_unix_timestamp(utc_ms.div_euclid(1000))
            .ok()
            .and_then(|t| t.checked_to_offset(offset))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Ui {
    type Rejection = UiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Ui, UiError> {
        parts
            .extensions
            .get::<Ui>()
            .cloned()
            .ok_or_else(|| UiError::internal("this page is served outside of yika_ui::mount", crate::Saved::Nothing))
    }
}

/// Context of one page: `page` in every template.
#[derive(Debug, Clone)]
pub struct Page {
    /// Title in the operator's language.
    pub title: String,
    /// Path of the menu item to mark.
    pub active: String,
    /// Breadcrumb.
    pub crumbs: Vec<Crumb>,
    /// Campuses of the scope selector; empty hides it.
    pub campuses: Vec<Choice>,
    /// Time of the data; `None` hides it.
    pub as_of: Option<AsOf>,
    /// Message shown at once.
    pub toast: Option<Toast>,
    /// Number at the alert bell.
    pub alerts: u32,
    /// What the page says at its top.
    pub notice: Option<Notice>,
    /// Request context.
    pub ui: Ui,
}

impl Page {
    /// The text of a key.
    pub fn t<'a>(&'a self, key: &'a str) -> &'a str {
        self.ui.t(key)
    }

    /// The text of a key with one place filled.
    pub fn t1(&self, key: &str, name: &str, value: impl fmt::Display) -> String {
        self.ui.t_args(key, &[(name, &value.to_string())])
    }

    /// The text of a key with its places filled.
    pub fn t_args(&self, key: &str, args: &[(&str, &str)]) -> String {
        self.ui.t_args(key, args)
    }

    /// An icon of the sprite.
    pub fn icon<'a>(&self, name: &'a str) -> Icon<'a> {
        Icon(name)
    }

    /// URL of a kit file.
    pub fn asset(&self, path: &str) -> String {
        assets::url(path)
    }

    /// Token of this page's forms (`<input type="hidden" name="_csrf" …>`).
    pub fn csrf(&self) -> &str {
        &self.ui.csrf
    }

    /// Adds a last step to the breadcrumb.
    pub fn crumb(mut self, text: impl Into<String>) -> Page {
        self.crumbs.push(Crumb { text: text.into(), href: None });
        self
    }

    /// Replaces the title by text that is no key (a person's name).
    pub fn titled(mut self, title: impl Into<String>) -> Page {
        self.title = title.into();
        self
    }

    /// Whether this operator sees a menu item.
    pub fn may_see(&self, item: &MenuItem) -> bool {
        let bound = self.ui.operator.as_ref().is_some_and(|operator| operator.campus.is_some());
        self.has_role(item.roles) && !(bound && self.ui.kit.free_only.contains(&item.href))
    }

    /// Where this operator searches; `None` hides the box.
    pub fn search_action(&self) -> Option<&'static str> {
        self.ui.kit.search_action.filter(|_| self.has_role(self.ui.kit.search_roles))
    }

    /// Whether the operator has one of the roles; none asked for is everybody.
    pub fn has_role(&self, roles: &[Role]) -> bool {
        roles.is_empty() || self.ui.operator.as_ref().is_some_and(|operator| roles.contains(&operator.role))
    }

    /// Whether this operator sees any item of a group.
    pub fn may_see_group(&self, group: &MenuGroup) -> bool {
        group.items.iter().any(|item| self.may_see(item))
    }

    /// Whether a group holds the marked item.
    pub fn in_group(&self, group: &MenuGroup) -> bool {
        group.items.iter().any(|item| item.href == self.active)
    }

    /// Address of a preference switch that returns to this page.
    pub fn switch(&self, kind: &str, code: &str) -> String {
        format!("/ui/{kind}/{code}?back={}", encode(&self.ui.path))
    }
}

/// Three plain English words in a row.
/// Alarms whose detail begins with a name and a colon.
const NAMED_ALARMS: [&str; 4] = ["door_", "fire", "forced_open", "held_open"];

/// What is worth telling of an English sentence to somebody who does not read it: its numbers, addresses and ids. The
/// numbers of the operating system's errors are not.
fn facts_of(text: &str) -> Vec<&str> {
    let clean = text.split("(os error ").enumerate().map(|(at, part)| match at {
        0 => part,
        _ => part.split_once(')').map_or("", |(_, rest)| rest),
    });
    let words = clean.flat_map(|part| part.split([' ', ',', ';']));
    let bare = words.map(|word| word.trim_matches(['(', ')', '[', ']', ':', '.', '"', '\'']));
    bare.filter(|word| word.bytes().any(|b| b.is_ascii_digit())).collect()
}

fn reads_english(text: &str) -> bool {
    let mut run = 0;
    text.split_whitespace().any(|word| {
        let word = word.trim_end_matches([',', '.', ':', ';']);
        let plain = word.len() > 1 && word.bytes().all(|b| b.is_ascii_alphabetic());
        run = if plain { run + 1 } else { 0 };
        run == 3
    })
}

/// Percent-encodes all but unreserved characters, for one query value.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toast_trigger_is_ascii_json() {
        let toast = Toast { tone: Tone::Ok, text: "已挂失 \"62\"\n𠮷".into() };
        let value = toast.trigger();
        assert!(value.is_ascii());
        assert_eq!(value, r#"{"toast":{"tone":"ok","text":"\u5df2\u6302\u5931 \u002262\u0022\u000a\ud842\udfb7"}}"#);
    }

    fn reader_of(lang: Lang) -> Ui {
        Ui {
            kit: Arc::new(Kit::new("app", Vec::new(), Words::kit().unwrap())),
            port: None,
            lang,
            theme: Theme::Auto,
            campus: None,
            menu_folded: false,
            operator: None,
            csrf: String::new(),
            path: "/".into(),
            reads: true,
            htmx: false,
            now_ms: 0,
            trace_id: String::new(),
        }
    }

    #[test]
    fn door_alarms_keep_their_names_and_numbers_and_no_scraps_of_english() {
        let (zh, en) = (reader_of(Lang::Zh), reader_of(Lang::En));
        let ended = "modbus-1: the driver ended by itself, 3 in a row; it is started again";
        assert_eq!(zh.alarm_detail("door_driver", ended), "modbus-1 驱动意外结束，连续 3 次，已重新启动");
        assert_eq!(en.alarm_detail("door_driver", ended), ended);
        let silent = "East Front Gate, d2: the board does not answer (10.3.0.9:502: Connection refused \
                      (os error 111)); check its power, cable and address";
        assert_eq!(zh.alarm_detail("door_line", silent), "East Front Gate, d2 10.3.0.9:502 控制板没有应答");
        let failed = "d1: the device does not answer (timed out): check its power, cable and address";
        assert_eq!(zh.alarm_detail("door_failed", failed), "d1 控制板没有执行开锁");
        let lost = "line 1: 12 events of this line found no room";
        assert_eq!(zh.alarm_detail("door_events_lost", lost), "line 1 事件太多，有 12 条没有记录");
    }

    #[test]
    fn acts_at_boxes_are_told_by_their_facts() {
        let (zh, en) = (reader_of(Lang::Zh), reader_of(Lang::En));
        let lifted = "card:10000106: 1 lifted, 0 left, card read, document seen";
        assert_eq!(zh.act_detail(lifted), "10000106 · 解除 1 项，剩 0 项，已刷卡并核对证件");
        assert_eq!(en.act_detail(lifted), lifted);
        assert_eq!(zh.act_detail("card:10000106 as Lost"), "10000106 · 卡片丢失");
        assert_eq!(zh.act_detail("person:7 as Unheard"), "person:7 as Unheard");
        assert_eq!(zh.act_detail("t2 boot 1796124128 of o2"), "t2");
        assert_eq!(zh.act_detail("t5-1-204 ¥3.00: 刷错了"), "t5-1-204 ¥3.00: 刷错了");
    }

    #[test]
    fn english_is_told_from_names_and_numbers() {
        assert!(reads_english("东门: opened without a right; look at the door"));
        assert!(reads_english("t5-1-204 was sold twice; the sale at n2@1.1 is reversed"));
        for plain in ["终端 t3 的时钟慢了 4 分钟", "n3@1.2/journal 17", "East Gate", ""] {
            assert!(!reads_english(plain), "{plain}");
        }
    }

    #[test]
    fn an_icon_name_cannot_break_out_of_its_attribute() {
        assert!(!Icon("x\"><script>").to_string().contains("script"));
        assert!(Icon("search").to_string().contains("#search\""));
    }

    #[test]
    fn encode_leaves_no_reserved_character() {
        assert_eq!(encode("/a?b=1&c=张"), "%2Fa%3Fb%3D1%26c%3D%E5%BC%A0");
    }
}
