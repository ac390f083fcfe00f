//! A small HTTP/1.1 client for tests, the demo and load generation: keep-alive pool, bound per exchange,
//! cookies and csrf tokens of form logins. It follows nothing by itself; TLS is left to others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bound of one exchange, connecting included, unless set otherwise.
const TIMEOUT_MS: u64 = 10_000;
const POOL_IDLE_MS: u64 = 30_000;
/// Largest answer taken.
const BODY_BYTES: usize = 64 << 20;
/// Redirects followed on request.
const REDIRECTS: usize = 5;
/// Part of an answer shown in a failure message.
const SHOWN_CHARS: usize = 600;
/// Name of the hidden form field, and of the meta tag, that hold the csrf token.
pub const CSRF_FIELD: &str = "_csrf";
/// Header that carries the csrf token of a request which is no plain form.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// A client of one server. Shared by reference among tasks; connections are opened as they are needed.
#[derive(Debug)]
pub struct Client {
    base: String,
    pool: Pool<HttpConnector, Full<Bytes>>,
    timeout: Duration,
    headers: HeaderMap,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Client {
    /// `base` is such as `http://127.0.0.1:8080`. Call it within a tokio runtime.
    #[must_use]
    pub fn new(base: impl Into<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_millis(POOL_IDLE_MS))
            .pool_timer(TokioTimer::new())
            .build(connector);
        let timeout = Duration::from_millis(TIMEOUT_MS);
        let base = base.into().trim_end_matches('/').to_owned();
        Self { base, pool, timeout, headers: HeaderMap::new(), cookies: Mutex::default() }
    }

    /// Bound of one exchange.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A header of every request, such as `authorization`.
    ///
    /// # Errors
    /// Not a legal header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let (name, value) = header(name, value)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// # Errors
    /// As [`Client::send`]; the value cannot be written as JSON.
    pub async fn post_json(&self, path: &str, value: &impl Serialize) -> Result<Answer> {
        let body = serde_json::to_vec(value).with_context(|| format!("POST {path}: no JSON"))?;
        self.post_bytes(path, "application/json", body).await
    }

    /// # Errors
    /// As [`Client::send`].
    pub async fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        self.post_bytes(path, "application/x-www-form-urlencoded", encode_form(fields)).await
    }

    /// # Errors
    /// As [`Client::send`].
    pub async fn post_bytes(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Result<Answer> {
        self.send(Method::POST, path, &[(CONTENT_TYPE.as_str(), content_type)], body).await
    }

    /// A form with one uploaded file, as a browser sends it (`multipart/form-data`).
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn post_file(&self, path: &str, fields: &[(&str, &str)], file: &Upload<'_>) -> Result<Answer> {
        self.send_file(path, &[], fields, file).await
    }

    /// As [`Client::post_file`], with the csrf token of `page` as a header, as a console's script sends it.
    ///
    /// # Errors
    /// As [`Client::send`]; the page is refused or holds no token.
    pub async fn upload(&self, page: &str, action: &str, fields: &[(&str, &str)], file: &Upload<'_>) -> Result<Answer> {
        let token = self.token(page).await?;
        self.send_file(action, &[(CSRF_HEADER, &token)], fields, file).await
    }

    async fn send_file(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        fields: &[(&str, &str)],
        file: &Upload<'_>,
    ) -> Result<Answer> {
        let boundary = boundary(file.bytes);
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let mut all = vec![(CONTENT_TYPE.as_str(), content_type.as_str())];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, encode_multipart(fields, file, &boundary)).await
    }

    /// Fetches `page`, takes its csrf token, and posts `fields` with it to `action`.
    ///
    /// # Errors
    /// As [`Client::send`]; the page is refused or holds no token.
    pub async fn submit(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let token = self.token(page).await?;
        let mut all = vec![(CSRF_FIELD, token.as_str())];
        all.extend_from_slice(fields);
        self.post_form(action, &all).await
    }

    /// The csrf token of a page.
    ///
    /// # Errors
    /// As [`Client::send`]; the page is refused or holds no token.
    pub async fn token(&self, page: &str) -> Result<String> {
        let shown = self.get(page).await?.ok()?;
        shown.csrf().ok_or_else(|| anyhow!("GET {}{page}: no csrf token in the page", self.base))
    }

    /// Follows redirects within this server by GET, and gives the first other answer.
    ///
    /// # Errors
    /// As [`Client::send`]; a redirect elsewhere or without end.
    pub async fn follow(&self, mut answer: Answer) -> Result<Answer> {
        for _ in 0..REDIRECTS {
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let to = answer.header("location").ok_or_else(|| anyhow!("{}: redirect to nowhere", answer.what))?;
            let path = to.strip_prefix(&self.base).unwrap_or(to).to_owned();
            if !path.starts_with('/') || path.starts_with("//") {
                bail!("{}: redirect to another place: {to}", answer.what);
            }
            answer = self.get(&path).await?;
        }
        bail!("{}: more than {REDIRECTS} redirects", answer.what)
    }

    /// One exchange; an answer of any status is a success here.
    ///
    /// # Errors
    /// An illegal header or path, no connection, no whole answer within the bound, or one that is too long.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let what = format!("{method} {}{path}", self.base);
        let request = self.request(method, path, headers, body.into()).with_context(|| what.clone())?;
        let exchange = async {
            let response = self.pool.request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY_BYTES).collect().await.map_err(|e| anyhow!(e))?.to_bytes();
            anyhow::Ok((head, body))
        };
        let (head, body) = tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| anyhow!("{what}: no answer within {:?}", self.timeout))?
            .with_context(|| what.clone())?;
        self.keep_cookies(&head.headers);
        Ok(Answer { what, status: head.status, headers: head.headers, body })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.base)).body(Full::new(body))?;
        *request.headers_mut() = self.headers.clone();
        for (name, value) in headers {
            let (name, value) = header(name, value)?;
            request.headers_mut().insert(name, value);
        }
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        if !cookies.is_empty() && !request.headers().contains_key(COOKIE) {
            let line = cookies.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("; ");
            request.headers_mut().insert(COOKIE, HeaderValue::from_str(&line)?);
        }
        Ok(request)
    }

    fn keep_cookies(&self, headers: &HeaderMap) {
        let mut jar = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for line in headers.get_all(SET_COOKIE).iter().filter_map(|v| v.to_str().ok()) {
            let mut parts = line.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            if value.is_empty() || parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0")) {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The value of a cookie that the server has set.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Forgets all cookies, as a browser that is closed.
    pub fn forget_cookies(&self) {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A file in a form.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    pub field: &'a str,
    pub filename: &'a str,
    pub content_type: &'a str,
    pub bytes: &'a [u8],
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    what: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// # Errors
    /// The status is not 2xx; the message shows the start of the answer.
    pub fn ok(self) -> Result<Self> {
        if self.status.is_success() { Ok(self) } else { Err(anyhow!("{self}")) }
    }

    /// # Errors
    /// Another status; the message shows the start of the answer.
    pub fn expect_status(self, status: u16) -> Result<Self> {
        if self.status.as_u16() == status { Ok(self) } else { Err(anyhow!("wanted {status}: {self}")) }
    }

    /// The body; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Errors
    /// Not the wanted JSON; the message shows the start of the answer.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).with_context(|| format!("not the wanted JSON: {self}"))
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// Where a redirect points.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.header(LOCATION.as_str())
    }

    /// The csrf token of a page: the value of the input, or the content of the meta tag, named `_csrf`
    /// (a meta tag may also be named `csrf-token`), or the header that the page's script is told to send.
    #[must_use]
    pub fn csrf(&self) -> Option<String> {
        csrf_token(&self.text())
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: String = self.text().chars().take(SHOWN_CHARS).collect();
        write!(f, "{} answered {}: {shown}", self.what, self.status)
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let key = HeaderName::from_bytes(name.as_bytes()).with_context(|| format!("illegal header name {name:?}"))?;
    Ok((key, HeaderValue::from_str(value).with_context(|| format!("illegal value of header {name}"))?))
}

/// `application/x-www-form-urlencoded`, as browsers write it.
#[must_use]
pub fn encode_form(fields: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        encode(name, &mut form);
        form.push('=');
        encode(value, &mut form);
    }
    form
}

fn encode(text: &str, form: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => form.push(byte.into()),
            b' ' => form.push('+'),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(form, "%{byte:02X}");
            }
        }
    }
}

/// A boundary that does not occur in the file.
fn boundary(bytes: &[u8]) -> String {
    let mut n = 0_u64;
    loop {
        let boundary = format!("yika-{n:016x}");
        if !bytes.windows(boundary.len()).any(|w| w == boundary.as_bytes()) {
            return boundary;
        }
        n += 1;
    }
}

fn encode_multipart(fields: &[(&str, &str)], file: &Upload<'_>, boundary: &str) -> Vec<u8> {
    let quoted = |text: &str| text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let mut head = String::new();
    for (name, value) in fields {
        head +=
            &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\n{value}\r\n", quoted(name));
    }
    let (field, filename) = (quoted(file.field), quoted(file.filename));
    head += &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{filename}\"\r\n");
    head += &format!("Content-Type: {}\r\n\r\n", file.content_type);
    let mut body = head.into_bytes();
    body.extend_from_slice(file.bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

fn csrf_token(page: &str) -> Option<String> {
    let value = |tag: &str| match attribute(tag, "name")?.as_str() {
        CSRF_FIELD => attribute(tag, "value").or_else(|| attribute(tag, "content")),
        "csrf-token" => attribute(tag, "content"),
        _ => None,
    };
    let tags = || page.split('<').filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag));
    tags().find_map(value).or_else(|| tags().find_map(header_value))
}

/// The token in an attribute with JSON, as in `hx-headers='{"x-csrf-token":"…"}'`.
fn header_value(tag: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("\"{CSRF_HEADER}\":"))?;
    let (token, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    Some(token.to_owned())
}

/// The value of an attribute in the inside of a tag, quoted either way or not at all.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some(at) = rest.find(name) {
        let starts_word = rest[..at].ends_with(|c: char| c.is_whitespace());
        rest = &rest[at + name.len()..];
        let Some(value) = rest.trim_start().strip_prefix('=').filter(|_| starts_word) else { continue };
        let value = value.trim_start();
        let text = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split(quote).next()?,
            _ => value.split(|c: char| c.is_whitespace() || c == '/').next()?,
        };
        return Some(text.replace("&#43;", "+").replace("&#x2B;", "+").replace("&#61;", "=").replace("&amp;", "&"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_in_inputs_and_meta_tags() {
        let page = r#"<p name="x"><form><input type=hidden value='a"b' name="_csrf"/></form>"#;
        assert_eq!(csrf_token(page).as_deref(), Some("a\"b"));
        assert_eq!(csrf_token(r#"<meta name="csrf-token" content="t1==">"#).as_deref(), Some("t1=="));
        assert_eq!(csrf_token(r#"<meta content="t2" name="_csrf">"#).as_deref(), Some("t2"));
        assert_eq!(csrf_token(r#"<input name=_csrf value=t3>"#).as_deref(), Some("t3"));
        let body = r#"<body class="a" hx-headers:inherited='{"x-csrf-token":"t4"}'>"#;
        assert_eq!(csrf_token(body).as_deref(), Some("t4"));
        assert_eq!(csrf_token(&format!("{body}{page}")).as_deref(), Some("a\"b"));
        assert_eq!(csrf_token(r#"<input data-name="_csrf" value="no"><input name="other" value="no">"#), None);
    }

    #[test]
    fn forms_are_written_as_browsers_do() {
        assert_eq!(encode_form(&[("name", "张 三"), ("a&b", "1+1=2~")]), "name=%E5%BC%A0+%E4%B8%89&a%26b=1%2B1%3D2%7E");
    }

    #[test]
    fn the_boundary_is_not_in_the_file() {
        let bytes = b"yika-0000000000000000 yika-0000000000000001";
        assert_eq!(boundary(bytes), "yika-0000000000000002");
    }
}
