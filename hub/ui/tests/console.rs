//! The console as a browser meets it: sign-in, lock-out, tokens, sessions, languages, headers, error pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::{get, post};
use tower::ServiceExt;
use yika_ui::auth::{Auth, AuthAct, AuthEvent, AuthPolicy, Clock, DirectoryError, HashCost, Operator, hash_password};
use yika_ui::{Console, CurrentOperator, OperatorDirectory, Role, Saved, Ui, UiError, gallery, mount, require_roles};

const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };
const MINUTE_MS: u64 = 60_000;
const PASSWORD: &str = "石桥-lantern-42";

#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Default)]
struct Directory {
    operators: Arc<Mutex<Vec<Operator>>>,
    events: Arc<Mutex<Vec<AuthEvent>>>,
    broken: Arc<Mutex<bool>>,
}

impl Directory {
    fn change(&self, login: &str, change: impl Fn(&mut Operator)) {
        let mut operators = self.operators.lock().unwrap();
        change(operators.iter_mut().find(|o| o.login == login).unwrap());
    }

    fn find(&self, wanted: impl Fn(&Operator) -> bool) -> Result<Option<Operator>, DirectoryError> {
        if *self.broken.lock().unwrap() {
            return Err(DirectoryError("database is locked".into()));
        }
        let operators = self.operators.lock().unwrap();
        Ok(operators.iter().find(|o| wanted(o)).cloned())
    }

    fn acts(&self) -> Vec<AuthAct> {
        self.events.lock().unwrap().iter().map(|e| e.what).collect()
    }
}

impl OperatorDirectory for Directory {
    async fn by_login(&self, login: &str) -> Result<Option<Operator>, DirectoryError> {
        self.find(|o| o.login == login)
    }

    async fn by_id(&self, id: &str) -> Result<Option<Operator>, DirectoryError> {
        self.find(|o| o.id == id)
    }

    async fn set_password(&self, id: &str, verifier: &str, _: Option<&str>) -> Result<(), DirectoryError> {
        let login = self.find(|o| o.id == id)?.unwrap().login;
        self.change(&login, |o| {
            o.verifier = verifier.to_owned();
            o.must_change = false;
            o.credential_epoch += 1;
        });
        Ok(())
    }

    async fn record(&self, event: AuthEvent) -> Result<(), DirectoryError> {
        self.events.lock().unwrap().push(event);
        Ok(())
    }
}

struct Site {
    app: Router,
    clock: Arc<TestClock>,
    directory: Directory,
}

fn operator(login: &str, role: Role, must_change: bool) -> Operator {
    Operator {
        id: format!("id-{login}"),
        login: login.into(),
        name: format!("操作员 {login}"),
        role,
        campus: None,
        verifier: hash_password(PASSWORD, CHEAP).unwrap(),
        must_change,
        active: true,
        credential_epoch: 0,
    }
}

fn site_with(tls: bool) -> Site {
    let directory = Directory::default();
    directory.operators.lock().unwrap().extend([
        operator("chen", Role::Admin, false),
        operator("wu", Role::Cashier, false),
        operator("fresh", Role::Admin, true),
    ]);
    let clock = Arc::new(TestClock::default());
    let policy = AuthPolicy { cost: CHEAP, ..AuthPolicy::default() };
    let auth = Auth::with_clock(directory.clone(), policy, clock.clone()).unwrap();
    let mut kit = gallery::sample_kit().unwrap();
    kit.tls = tls;
    let admin = Router::new().route("/admin", get(|| async { "admin only" }));
    let pages = Router::new()
        .route("/", get(|o: CurrentOperator| async move { o.login }))
        .route("/who", get(|ui: Ui| async move { ui.csrf }))
        .route("/act", post(|body: String| async move { format!("done {body}") }))
        .route("/broken", get(|| async { UiError::internal("secret detail", Saved::Unknown) }))
        .merge(require_roles(admin, &[Role::Admin]));
    Site { app: mount(pages, gallery::router(), Console::new(kit, auth)), clock, directory }
}

fn site() -> Site {
    site_with(true)
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// A browser: keeps cookies, reads the token out of pages.
struct Browser<'a> {
    site: &'a Site,
    cookies: Vec<(String, String)>,
    /// Host and port that it asks; empty for none.
    host: &'static str,
}

impl Browser<'_> {
    fn at(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    async fn send(&mut self, mut request: axum::http::request::Builder, body: Body) -> Answer {
        if !self.host.is_empty() {
            request = request.header("host", self.host);
        }
        let jar: Vec<String> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let request = request.header("cookie", jar.join("; ")).body(body).unwrap();
        let response = self.site.app.clone().oneshot(request).await.unwrap();
        for value in response.headers().get_all("set-cookie") {
            let (pair, _) = value.to_str().unwrap().split_once(';').unwrap();
            let (key, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(k, _)| k != key);
            if !value.is_empty() {
                self.cookies.push((key.into(), value.into()));
            }
        }
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), Body::empty()).await
    }

    async fn post(&mut self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request, Body::from(form.to_owned())).await
    }

    async fn token(&mut self, path: &str) -> String {
        let page = self.get(path).await;
        let (_, rest) = page.body.split_once("name=\"_csrf\" value=\"").expect("a form");
        rest.split_once('"').unwrap().0.to_owned()
    }

    async fn sign_in(&mut self, login: &str, password: &str) -> Answer {
        let token = self.token("/login").await;
        self.post("/login", &format!("login={login}&password={password}&_csrf={token}&back=/who")).await
    }
}

fn browser(site: &Site) -> Browser<'_> {
    Browser { site, cookies: Vec::new(), host: "" }
}

#[tokio::test]
async fn signing_in_opens_pages_and_signing_out_closes_them() {
    let site = site();
    let mut b = browser(&site);
    let away = b.get("/who?x=1").await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    assert_eq!(away.header("location"), "/login?back=%2Fwho%3Fx%3D1");
    let welcome = b.sign_in(" CHEN ", PASSWORD).await;
    assert_eq!(welcome.header("location"), "/who", "{}", welcome.body);
    let cookie = welcome.header("set-cookie");
    for part in ["__Host-yika_session=", "HttpOnly", "SameSite=Strict", "Path=/", "Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(b.get("/").await.body, "chen");
    let old = b.cookies.clone();
    let token = b.get("/who").await.body;
    let out = b.post("/logout", &format!("_csrf={token}")).await;
    assert_eq!(out.header("location"), "/login?why=out");
    b.cookies = old;
    assert_eq!(b.get("/").await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.directory.acts(), [AuthAct::SignedIn, AuthAct::SignedOut]);
}

#[tokio::test]
async fn two_consoles_of_one_host_sign_nobody_out_of_the_other() {
    let (hub, edge) = (site(), site());
    let mut at_hub = browser(&hub).at("campus.example:8080");
    assert_eq!(at_hub.sign_in("chen", PASSWORD).await.header("location"), "/who");
    at_hub.get("/ui/lang/en?back=/").await;
    // The same browser at the other port: it sends every cookie of the host there, too.
    let mut at_edge = Browser { cookies: at_hub.cookies.clone(), ..browser(&edge).at("campus.example:8081") };
    assert_eq!(at_edge.get("/").await.status, StatusCode::SEE_OTHER);
    assert!(at_edge.get("/login").await.body.contains("lang=\"zh-CN\""), "a choice of its own");
    assert_eq!(at_edge.sign_in("chen", PASSWORD).await.header("location"), "/who");
    let mut back = Browser { cookies: at_edge.cookies.clone(), ..browser(&hub).at("campus.example:8080") };
    assert_eq!(back.get("/").await.body, "chen", "still signed in");
    let token = at_edge.get("/who").await.body;
    at_edge.post("/logout", &format!("_csrf={token}")).await;
    back.cookies = at_edge.cookies.clone();
    assert_eq!(back.get("/").await.body, "chen", "signing out of one leaves the other");
}

#[tokio::test]
async fn without_tls_the_cookie_is_not_secure_only() {
    let site = site_with(false);
    let welcome = browser(&site).sign_in("chen", PASSWORD).await;
    assert!(!welcome.header("set-cookie").contains("Secure"));
}

#[tokio::test]
async fn unknown_name_wrong_password_and_inactive_answer_alike() {
    let site = site();
    site.directory.change("wu", |o| o.active = false);
    site.directory.change("fresh", |o| o.verifier.clear());
    let mut bodies = Vec::new();
    for (login, password) in [
        ("nobody", PASSWORD),
        ("chen", "wrong"),
        ("wu", PASSWORD),
        ("fresh", ""),
        ("fresh", "no operator has this password"),
    ] {
        let mut b = browser(&site);
        let refused = b.sign_in(login, password).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{login}");
        assert!(refused.body.contains("登录名或密码不正确"));
        assert!(b.cookies.iter().all(|(k, _)| !k.contains("yika_session")));
        let start = refused.body.find("<h1>").unwrap();
        let end = refused.body.find("<form").unwrap();
        bodies.push(refused.body[start..end].to_owned());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
}

#[tokio::test]
async fn five_failures_lock_a_name_even_for_the_right_password() {
    let site = site();
    let mut b = browser(&site);
    for _ in 0..5 {
        let refused = b.sign_in("chen", "wrong").await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let locked = b.sign_in("chen", PASSWORD).await;
    assert_eq!(locked.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(locked.body.contains("请 15 分钟后再试"));
    for _ in 0..5 {
        b.sign_in("nobody", "wrong").await;
    }
    let unknown = b.sign_in("nobody", "wrong").await;
    assert_eq!(unknown.status, StatusCode::TOO_MANY_REQUESTS);
    site.clock.0.fetch_add(15 * MINUTE_MS, Ordering::SeqCst);
    assert_eq!(b.sign_in("chen", PASSWORD).await.status, StatusCode::SEE_OTHER);
    assert!(site.directory.acts().contains(&AuthAct::Locked));
}

#[tokio::test]
async fn changing_requests_need_the_token_of_their_session() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    let good = b.get("/who").await.body;
    let mut other = browser(&site);
    other.sign_in("wu", PASSWORD).await;
    let foreign = other.get("/who").await.body;
    for form in ["x=1".to_owned(), "_csrf=".to_owned(), format!("_csrf={foreign}"), format!("_csrf={}", &good[1..])] {
        let refused = b.post("/act", &form).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{form}");
        assert!(refused.body.contains("请求未通过校验"));
        assert!(refused.body.contains("没有保存任何内容"));
    }
    let done = b.post("/act", &format!("x=1&_csrf={good}")).await;
    assert_eq!(done.body, format!("done x=1&_csrf={good}"));
    let by_header = Request::post("/act").header("x-csrf-token", &good);
    assert_eq!(b.send(by_header, Body::from("{}")).await.body, "done {}");
    let wrong_header = Request::post("/act").header("x-csrf-token", &foreign);
    let refused = b.send(wrong_header, Body::from("{}")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let cross = Request::post("/act").header("x-csrf-token", &good).header("sec-fetch-site", "cross-site");
    assert_eq!(b.send(cross, Body::empty()).await.status, StatusCode::FORBIDDEN);
    let json = Request::post("/act").header("content-type", "application/json");
    assert_eq!(b.send(json, Body::empty()).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_login_form_itself_needs_its_token() {
    let site = site();
    let mut b = browser(&site);
    let form = format!("login=chen&password={PASSWORD}");
    let refused = b.post("/login", &form).await;
    assert_eq!(refused.header("location"), "/login?back=%2F&why=ended");
    assert!(b.cookies.iter().all(|(k, _)| !k.contains("yika_session")));
}

#[tokio::test]
async fn sessions_end_idle_and_htmx_is_sent_to_the_login_page() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    site.clock.0.fetch_add(29 * MINUTE_MS, Ordering::SeqCst);
    assert_eq!(b.get("/").await.status, StatusCode::OK);
    site.clock.0.fetch_add(30 * MINUTE_MS, Ordering::SeqCst);
    let ended = b.get("/").await;
    assert_eq!(ended.header("location"), "/login?back=%2F&why=ended");
    let fragment = b.send(Request::get("/").header("hx-request", "true"), Body::empty()).await;
    assert_eq!(fragment.status, StatusCode::OK);
    assert!(fragment.header("hx-redirect").starts_with("/login?back=%2F"));
    assert_eq!(fragment.body, "");
}

#[tokio::test]
async fn a_page_that_refreshes_itself_does_not_keep_the_session() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    for minute in 1..40 {
        site.clock.0.fetch_add(MINUTE_MS, Ordering::SeqCst);
        let poll = Request::get("/").header(yika_ui::BACKGROUND_HEADER, "1");
        let status = b.send(poll, Body::empty()).await.status;
        assert_eq!(status == StatusCode::OK, minute < 30, "minute {minute}");
    }
}

#[tokio::test]
async fn what_an_extractor_refuses_is_dressed_too() {
    let site = site();
    let mut b = browser(&site);
    let wrong = b.get("/gallery/list?page=minus").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.body.contains("输入有误"), "{}", wrong.body);
    let token = b.token("/login").await;
    let long = "x".repeat(8 * 1024);
    let large = b.post("/login", &format!("_csrf={token}&login={long}")).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(large.body.contains("输入有误"));
}

#[tokio::test]
async fn revocation_and_new_roles_hold_from_the_next_request_on() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    assert_eq!(b.get("/admin").await.body, "admin only");
    site.directory.change("chen", |o| o.role = Role::Clerk);
    let refused = b.get("/admin").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("需要角色：管理员"));
    // The same again is refused again: the way out leads.
    assert!(refused.body.contains("<a class=\"btn is-primary\" href=\"/\">"), "{}", refused.body);
    assert!(!refused.body.contains("href=\"/admin\">"), "{}", refused.body);
    site.directory.change("chen", |o| o.active = false);
    assert_eq!(b.get("/").await.status, StatusCode::SEE_OTHER);
    site.directory.change("chen", |o| o.active = true);
    assert_eq!(b.get("/").await.status, StatusCode::SEE_OTHER, "an ended session stays ended");
    b.sign_in("chen", PASSWORD).await;
    assert_eq!(b.get("/").await.status, StatusCode::OK);
    // A password changed elsewhere arrives by replication.
    site.directory.change("chen", |o| o.credential_epoch += 1);
    assert_eq!(b.get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn tries_in_parallel_count_like_tries_in_a_row() {
    let site = site();
    let tries = (0..12).map(|_| async {
        let mut b = browser(&site);
        b.sign_in("chen", "wrong").await.status
    });
    let statuses = join_all(tries).await;
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!(count(StatusCode::UNPROCESSABLE_ENTITY), 5, "{statuses:?}");
    assert_eq!(count(StatusCode::TOO_MANY_REQUESTS), 7);
}

/// Runs all futures at the same time on this task.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut waiting {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        match waiting.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn a_storage_error_is_503_and_ends_no_session() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    *site.directory.broken.lock().unwrap() = true;
    let unavailable = b.get("/").await;
    assert_eq!(unavailable.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!unavailable.body.contains("database is locked"));
    let mut other = browser(&site);
    for _ in 0..7 {
        let undecided = other.sign_in("wu", PASSWORD).await;
        assert_eq!(undecided.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    *site.directory.broken.lock().unwrap() = false;
    assert_eq!(b.get("/").await.body, "chen");
    assert_eq!(other.sign_in("wu", PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_first_sign_in_forces_a_password_that_keeps_the_rule() {
    let site = site();
    let mut b = browser(&site);
    assert_eq!(b.sign_in("fresh", PASSWORD).await.header("location"), "/password");
    assert_eq!(b.get("/").await.header("location"), "/password");
    let blocked = b.send(Request::get("/admin").header("hx-request", "true"), Body::empty()).await;
    assert_eq!(blocked.header("hx-redirect"), "/password");
    for (new, again, words) in [
        ("short", "short", "密码太短"),
        ("Password123", "Password123", "太常见"),
        ("bridge-lantern-7", "bridge-lantern-8", "两次输入的密码不一致"),
    ] {
        let token = b.token("/password").await;
        let form = format!("_csrf={token}&new={new}&again={again}");
        let refused = b.post("/password", &form).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(words), "{words}");
    }
    let before = b.cookies.clone();
    let token = b.token("/password").await;
    let form = format!("_csrf={token}&new=bridge-lantern-7&again=bridge-lantern-7");
    assert_eq!(b.post("/password", &form).await.header("location"), "/");
    assert_eq!(b.get("/").await.body, "fresh");
    b.cookies = before;
    assert_eq!(b.get("/").await.status, StatusCode::SEE_OTHER, "old sessions end");
    let mut again = browser(&site);
    assert_eq!(again.sign_in("fresh", "bridge-lantern-7").await.header("location"), "/who");
}

#[tokio::test]
async fn a_later_change_asks_for_the_current_password() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    let token = b.token("/password").await;
    let form = format!("_csrf={token}&current=guess&new=bridge-lantern-7&again=bridge-lantern-7");
    let refused = b.post("/password", &form).await;
    assert!(refused.body.contains("当前密码不正确"));
    for _ in 0..5 {
        b.post("/password", &form).await;
    }
    let locked = b.post("/password", &form).await;
    assert!(locked.body.contains("尝试次数过多"));
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let site = site();
    let mut b = browser(&site);
    let css = yika_ui::assets::url("app.css");
    for path in ["/login", "/gallery", "/nowhere", "/", css.as_str()] {
        let answer = b.get(path).await;
        let csp = answer.header("content-security-policy");
        assert!(csp.contains("default-src 'self'"), "{path}");
        assert!(csp.contains("frame-ancestors 'none'") && !csp.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
    }
    assert_eq!(b.get("/login").await.header("cache-control"), "no-store");
    let immutable = b.get(&css).await;
    assert!(immutable.header("cache-control").contains("immutable"));
    assert_eq!(immutable.header("content-type"), "text/css; charset=utf-8");
    let old = css.replace(css.split('/').nth(3).unwrap(), "000000000000");
    assert_eq!(b.get(&old).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_has_not_chosen_gets_the_language_of_his_browser() {
    let site = site();
    let mut b = browser(&site);
    let page = |wish: &str| Request::get("/login").header("accept-language", wish);
    for (wish, lang) in [("en-GB,en;q=0.9,zh;q=0.8", "en"), ("zh-CN,en;q=0.9", "zh-CN"), ("fr", "zh-CN")] {
        let first = b.send(page(wish), Body::empty()).await;
        assert!(first.body.contains(&format!("<html lang=\"{lang}\"")), "{wish}: {}", first.body);
        assert!(first.headers.get_all("vary").iter().any(|v| v == "Accept-Language"), "{:?}", first.headers);
    }
    b.get("/ui/lang/zh?back=/").await;
    let chosen = b.send(page("en"), Body::empty()).await;
    assert!(chosen.body.contains("<html lang=\"zh-CN\""), "a choice goes before a wish");
}

#[tokio::test]
async fn language_and_theme_are_cookies_that_the_server_renders() {
    let site = site();
    let mut b = browser(&site);
    let zh = b.get("/gallery").await;
    assert!(zh.body.contains("<html lang=\"zh-CN\" data-theme=\"auto\""));
    let back = b.get("/ui/lang/en?back=%2Fgallery%2Flist").await;
    assert_eq!(back.header("location"), "/gallery/list");
    b.get("/ui/theme/dark?back=//evil.example").await;
    let en = b.get("/gallery").await;
    assert!(en.body.contains("<html lang=\"en\" data-theme=\"dark\""));
    assert!(en.body.contains("Operations overview") && !en.body.contains("运行总览"));
    let evil = b.get("/ui/theme/dark?back=//evil.example").await;
    assert_eq!(evil.header("location"), "/");
    assert_eq!(b.get("/ui/lang/xx").await.status, StatusCode::NOT_FOUND);
    assert!(en.headers.get_all("vary").iter().any(|v| v == "Cookie, HX-Request, HX-Request-Type"));
}

#[tokio::test]
async fn gallery_pages_show_no_raw_key_no_inline_script_and_only_known_icons() {
    let site = site();
    let sprite = yika_ui::assets::KitAssets::get("icons.svg").unwrap();
    let sprite = String::from_utf8(sprite.data.into_owned()).unwrap();
    for lang in ["zh", "en"] {
        let mut b = browser(&site);
        b.cookies.push(("lang".into(), lang.into()));
        let more = ["/gallery/drawer", "/gallery/till?state=refused", "/login", "/nowhere"];
        for path in gallery::PAGES.iter().copied().chain(more) {
            let body = b.get(path).await.body;
            for raw in [">g.", "\"g.", ">ui.", "\"ui.", ">error.", ">auth."] {
                assert!(!body.contains(raw), "{path} in {lang} shows a key: {raw}");
            }
            assert!(!body.contains("<script>") && !body.contains(" style=\"") && !body.contains(" onclick"));
            for icon in body.split("icons.svg#").skip(1) {
                let name = icon.split('"').next().unwrap();
                assert!(sprite.contains(&format!("<symbol id=\"{name}\"")), "no icon {name}");
            }
            if lang == "en" {
                let tags = body.matches("一卡通总部").count();
                assert_eq!(tags, 0, "{path} speaks Chinese in English");
            }
        }
    }
}

#[tokio::test]
async fn errors_say_what_was_saved_and_hide_their_detail() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    let page = b.get("/broken").await;
    assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(page.body.contains("无法确定是否已保存") && page.body.contains("data-copy=\""));
    assert!(page.body.contains("<html") && !page.body.contains("secret detail"));
    let part = b.send(Request::get("/broken").header("hx-request", "true"), Body::empty()).await;
    assert!(part.body.contains("无法确定是否已保存") && !part.body.contains("<html"));
    let whole = Request::get("/broken").header("hx-request", "true");
    let whole = whole.header("hx-request-type", "full");
    assert!(b.send(whole, Body::empty()).await.body.contains("<html"));
    for (kind, status) in [("refused", 403), ("unavailable", 503), ("conflict", 409), ("x", 404)] {
        let answer = b.get(&format!("/gallery/error/{kind}")).await;
        assert_eq!(answer.status.as_u16(), status);
        assert!(answer.body.contains("没有保存任何内容"), "{kind}");
    }
    let lost = b.get("/nowhere").await;
    assert_eq!(lost.status, StatusCode::NOT_FOUND);
    assert!(lost.body.contains("没有找到这个页面"));
}

#[tokio::test]
async fn a_wrong_form_is_a_422_fragment_and_a_right_one_brings_a_toast() {
    let site = site();
    let mut b = browser(&site);
    let token = b.token("/gallery").await;
    let wrong = b.post("/gallery/save", &format!("_csrf={token}&amount=9999")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains("aria-invalid=\"true\"") && !wrong.body.contains("<html"));
    assert!(wrong.body.contains("value=\"9999\""));
    let right = b.post("/gallery/save", &format!("_csrf={token}&amount=100")).await;
    assert_eq!(right.status, StatusCode::OK);
    assert!(right.header("hx-trigger").starts_with("{\"toast\":"));
    let hostile = b.post("/gallery/save", &format!("_csrf={token}&amount=%22%3E%3Cscript%3E")).await;
    assert!(!hostile.body.contains("<script"));
}

#[tokio::test]
async fn the_menu_hides_what_a_role_may_not_open() {
    let site = site();
    let mut b = browser(&site);
    b.sign_in("wu", PASSWORD).await;
    assert!(!b.get("/gallery").await.body.contains("/gallery/operators"));
    let mut b = browser(&site);
    b.sign_in("chen", PASSWORD).await;
    assert!(b.get("/gallery").await.body.contains("/gallery/operators"));
}
