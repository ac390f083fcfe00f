//! The HTTP client against a real server on hyper: pool, cookies, csrf, uploads, bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use yika_tests::http::{Client, Upload};
use yika_tests::process::Launch;

/// Remote addresses of the connections that were accepted.
type Seen = Arc<Mutex<BTreeSet<SocketAddr>>>;

async fn serve() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, from) = listener.accept().await.unwrap();
            log.lock().unwrap().insert(from);
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(connection);
        }
    });
    (base, seen)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
    let header = |name: &str| head.headers.get(name).map_or("-", |v| v.to_str().unwrap()).to_owned();
    let builder = Response::builder();
    let (builder, text) = match (head.method.as_str(), head.uri.path()) {
        ("GET", "/login") => (
            builder.header("set-cookie", "pre=1; Path=/; HttpOnly"),
            r#"<form><input type="hidden" name="_csrf" value="s+/="></form>"#.to_owned(),
        ),
        ("POST", "/login") if body.starts_with("_csrf=s%2B%2F%3D&") && header("cookie").contains("pre=1") => (
            builder
                .status(303)
                .header("location", "/home")
                .header("set-cookie", "session=abc; HttpOnly; SameSite=Strict")
                .header("set-cookie", "pre=; Max-Age=0"),
            String::new(),
        ),
        ("GET", "/home") if header("cookie") == "session=abc" => (builder, "welcome".to_owned()),
        ("GET", "/import") => (builder, r#"<body hx-headers:inherited='{"x-csrf-token":"t5"}'>"#.to_owned()),
        ("POST", "/import") if header("x-csrf-token") == "t5" && !body.contains("t5") => {
            (builder, format!("taken {}", body.contains("filename=\"人员.xlsx\"")))
        }
        ("POST", "/echo") => (builder, format!("{}|{}|{body}", header("content-type"), header("x-terminal"))),
        ("GET", "/slow") => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            (builder, String::new())
        }
        ("GET", "/away") => (builder.status(302).header("location", "http://192.0.2.1/"), String::new()),
        ("GET", "/round") => (builder.status(302).header("location", "/round"), String::new()),
        ("GET", "/ok") => (builder, "{\"n\":3}".to_owned()),
        _ => (builder.status(403), "refused: no session".to_owned()),
    };
    Ok(builder.body(Full::new(text.into())).unwrap())
}

#[tokio::test]
async fn a_form_login_keeps_its_session() {
    let (base, _) = serve().await;
    let client = Client::new(&base);
    assert_eq!(client.get("/home").await.unwrap().status, 403);
    let answer = client.submit("/login", "/login", &[("name", "管理员"), ("password", "x&y")]).await.unwrap();
    let answer = answer.expect_status(303).unwrap();
    assert_eq!(answer.location(), Some("/home"));
    assert_eq!(client.follow(answer).await.unwrap().ok().unwrap().text(), "welcome");
    assert_eq!((client.cookie("session").as_deref(), client.cookie("pre")), (Some("abc"), None));
    client.forget_cookies();
    let error = client.get("/home").await.unwrap().ok().unwrap_err().to_string();
    assert!(error.contains("GET http://127.0.0.1") && error.contains("403") && error.contains("no session"), "{error}");
    assert!(client.submit("/ok", "/login", &[]).await.unwrap_err().to_string().contains("no csrf token"));
}

#[tokio::test]
async fn bodies_and_headers_arrive() {
    let (base, _) = serve().await;
    let client = Client::new(base).header("x-terminal", "T1").unwrap();
    let value = serde_json::json!({"fen": 1200});
    assert_eq!(client.post_json("/echo", &value).await.unwrap().text(), "application/json|T1|{\"fen\":1200}");
    let form = client.post_form("/echo", &[("卡", "1 2")]).await.unwrap().text();
    assert_eq!(form, "application/x-www-form-urlencoded|T1|%E5%8D%A1=1+2");
    let file = Upload { field: "file", filename: "a.csv", content_type: "text/csv", bytes: b"id,name\n" };
    let sent = client.post_file("/echo", &[("_csrf", "t")], &file).await.unwrap().text();
    let wanted = "multipart/form-data; boundary=yika-0000000000000000|T1|--yika-0000000000000000\r\n\
        Content-Disposition: form-data; name=\"_csrf\"\r\n\r\nt\r\n--yika-0000000000000000\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\nContent-Type: text/csv\r\n\r\n\
        id,name\n\r\n--yika-0000000000000000--\r\n";
    assert_eq!(sent, wanted);
    let file = Upload { filename: "人员.xlsx", ..file };
    assert_eq!(client.upload("/import", "/import", &[], &file).await.unwrap().text(), "taken true");
    assert_eq!(client.post_file("/import", &[], &file).await.unwrap().status, 403);
    let n: serde_json::Value = client.get("/ok").await.unwrap().json().unwrap();
    assert_eq!(n["n"], 3);
    assert!(client.get("/login").await.unwrap().json::<u32>().is_err());
}

#[tokio::test]
async fn connections_are_kept_and_opened_as_needed() {
    let (base, seen) = serve().await;
    let client = Arc::new(Client::new(base));
    for _ in 0..20 {
        client.get("/ok").await.unwrap().ok().unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = Arc::clone(&client);
        tasks.spawn(async move { client.get("/ok").await.unwrap().status.as_u16() });
    }
    assert!(tasks.join_all().await.iter().all(|status| *status == 200));
    assert!(seen.lock().unwrap().len() <= 9);
}

#[tokio::test]
async fn bounds_redirects_and_dead_servers_are_told() {
    let (base, _) = serve().await;
    let client = Client::new(&base).timeout(Duration::from_millis(200));
    let error = client.get("/slow").await.unwrap_err().to_string();
    assert!(error.contains("/slow: no answer within 200ms"), "{error}");
    let away = client.get("/away").await.unwrap();
    assert!(client.follow(away).await.unwrap_err().to_string().contains("another place"));
    let round = client.get("/round").await.unwrap();
    assert!(client.follow(round).await.unwrap_err().to_string().contains("redirects"));
    let port = yika_tests::process::Port::reserve().unwrap();
    let dead = Client::new(format!("http://{}", port.address()));
    assert!(dead.get("/ok").await.is_err());
}

#[tokio::test]
async fn a_process_is_waited_for_until_it_answers() {
    let (base, _) = serve().await;
    let port = base.rsplit(':').next().unwrap().parse().unwrap();
    let mut process = Launch::program("sleep").unwrap().arg("60").start().await.unwrap();
    let bound = Duration::from_millis(500);
    assert_eq!(process.wait_for_http(port, "/ok", bound).await.unwrap().text(), "{\"n\":3}");
    let error = process.wait_for_http(port, "/home", bound).await.unwrap_err().to_string();
    assert!(error.contains("403") && error.contains("no session"), "{error}");
}
