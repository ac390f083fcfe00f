//! A browser without a screen: cookies, form tokens, htmx headers, over the console's router.
#![allow(dead_code, unreachable_pub)] // each user takes what it needs

use crate::site::PASSWORD;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use tower::ServiceExt;
use yika_hub::console::{self, Options, SignIns};
use yika_hub::desk::Desk;

pub fn app(desk: &Desk) -> Router {
    console::router(desk.clone(), Options::default(), SignIns::default()).unwrap()
}

pub struct Browser {
    app: Router,
    cookies: BTreeMap<String, String>,
    token: String,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl Browser {
    pub fn new(app: &Router) -> Browser {
        Browser { app: app.clone(), cookies: BTreeMap::new(), token: String::new() }
    }

    /// Signed in, in Chinese.
    pub async fn signed_in(app: &Router, login: &str) -> Browser {
        let mut browser = Browser::new(app);
        let answer = browser.sign_in(login, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{login} could not sign in: {}", answer.text);
        browser
    }

    pub async fn sign_in(&mut self, login: &str, password: &str) -> Answer {
        self.get("/login").await;
        self.post("/login", &[("login", login), ("password", password)]).await
    }

    pub fn lang(&mut self, code: &str) {
        self.cookies.insert("lang".into(), code.into());
    }

    pub fn campus(&mut self, code: &str) {
        self.cookies.insert("campus".into(), code.into());
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(Body::empty()).unwrap()).await
    }

    /// A form with its token, as a page sends it.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = ("_csrf", self.token.as_str());
        let all: Vec<_> = std::iter::once(token).chain(fields.iter().copied()).collect();
        let body = serde_urlencoded::to_string(all).unwrap();
        let request = self.request("POST", path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// A form without any token.
    pub async fn post_bare(&mut self, path: &str) -> Answer {
        let request = self.request("POST", path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from("a=1")).unwrap()).await
    }

    /// A file, as htmx sends it.
    pub async fn upload(&mut self, path: &str, name: &str, bytes: &[u8]) -> Answer {
        let mut body = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n--edge--\r\n");
        let request = self
            .request("POST", path)
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=edge")
            .header("hx-request", "true")
            .header("x-csrf-token", self.token.as_str());
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let cookies: Vec<String> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Request::builder().method(method).uri(path).header(header::COOKIE, cookies.join("; "))
    }

    async fn send(&mut self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for value in parts.headers.get_all(header::SET_COOKIE) {
            let pair = value.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.into(), value.into());
        }
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((_, rest)) = text.split_once("\"x-csrf-token\":\"") {
            self.token = rest.split('"').next().unwrap().to_owned();
        } else if let Some((_, rest)) = text.split_once("name=\"_csrf\" value=\"") {
            self.token = rest.split('"').next().unwrap().to_owned();
        }
        Answer { status: parts.status, headers: parts.headers, bytes, text }
    }
}
