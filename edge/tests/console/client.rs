//! A browser without a screen: cookies, the form token, and what was answered.

use crate::campus::PASSWORD;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use std::collections::BTreeMap;
use tower::ServiceExt;

pub(crate) struct Browser {
    app: Router,
    cookies: BTreeMap<String, String>,
    csrf: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn location(&self) -> &str {
        self.headers.get("location").map_or("", |to| to.to_str().unwrap())
    }

    /// The value of an attribute, as `data-next`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, after) = self.text.split_once(&format!(" {name}=\""))?;
        after.split('"').next()
    }
}

impl Browser {
    pub(crate) fn new(app: &Router, lang: &str) -> Browser {
        let cookies = BTreeMap::from([("lang".to_owned(), lang.to_owned())]);
        Browser { app: app.clone(), cookies, csrf: String::new() }
    }

    /// The same browser, where the program was started again.
    pub(crate) fn turn_to(&mut self, app: &Router) {
        self.app = app.clone();
    }

    /// Signed in as an operator of the seed.
    pub(crate) async fn signed_in(app: &Router, login: &str) -> Browser {
        Browser::signed_in_as(app, login, "zh").await
    }

    pub(crate) async fn signed_in_as(app: &Router, login: &str, lang: &str) -> Browser {
        let mut browser = Browser::new(app, lang);
        let answer = browser.sign_in(login, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{login}: {}", answer.text);
        browser.get("/ui/theme/light").await;
        browser
    }

    pub(crate) async fn sign_in(&mut self, login: &str, password: &str) -> Answer {
        self.get("/login").await;
        self.post("/login", &[("login", login), ("password", password), ("back", "/")]).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = Request::get(path).header("cookie", self.cookie_header());
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A form with the token of the last page.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form(fields.iter().copied().chain([("_csrf", self.csrf.as_str())]));
        self.post_raw(path, body, None).await
    }

    /// As the scripts send it: the token as a header, and the mark of htmx.
    pub(crate) async fn call(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf.clone();
        self.post_raw(path, form(fields.iter().copied()), Some(&csrf)).await
    }

    pub(crate) async fn post_raw(&mut self, path: &str, body: String, csrf: Option<&str>) -> Answer {
        let mut request = Request::post(path)
            .header("cookie", self.cookie_header())
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(csrf) = csrf {
            request = request.header("x-csrf-token", csrf).header("hx-request", "true");
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    async fn send(&mut self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let bytes = axum::body::to_bytes(body, 4 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        for mark in ["name=\"_csrf\" value=\"", "\"x-csrf-token\":\""] {
            if let Some((_, after)) = text.split_once(mark) {
                self.csrf = after.split('"').next().unwrap().to_owned();
            }
        }
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// The cookies as a request carries them.
    pub(crate) fn cookie_header(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }
}

fn form<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let encode = |text: &str| -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    fields.map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}
