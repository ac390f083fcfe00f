//! The OpenAPI document, made from the table of routes and the messages' own schemas.

use super::refusal::Code;
use super::route::Route;
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Required, ResponseBuilder, ResponsesBuilder};
use yika_drivers::terminal::message::*;
use yika_drivers::terminal::sign;

#[derive(OpenApi)]
#[openapi(
    info(title = "Yika terminal interface", version = "1"),
    components(schemas(
        SignIn,
        SignedIn,
        TimeAnswer,
        Heartbeat,
        HeartbeatAnswer,
        ParametersAnswer,
        ListDelta<BlockLine>,
        ListDelta<CardLine>,
        Purchase,
        Reversal,
        Refund,
        SaleAnswer,
        Batch,
        BatchAnswer,
        Totals,
        Swipe,
        SwipeAnswer,
        Problem
    ))
)]
struct Schemas;

/// The signing headers with what they carry, in Chinese and English.
pub(super) const HEADERS: [(&str, &str, &str); 6] = [
    (sign::TERMINAL, "终端编号,十进制", "Number of the terminal, decimal."),
    (
        sign::KEY_VERSION,
        "密钥的版本,十进制:登记时与密钥一同给出,不是密钥本身",
        "Version of the key, decimal: told with the key at the registration. Never the key itself.",
    ),
    (
        sign::BOOT,
        "启动号,十进制:终端丢失计数时加一",
        "Boot number of the terminal, decimal: raised whenever it lost its counter.",
    ),
    (
        sign::TIME,
        "终端时钟,1970 年以来的毫秒数(UTC),十进制",
        "The terminal's clock, milliseconds since 1970, UTC, decimal.",
    ),
    (
        sign::NONCE,
        "随机数,32 位小写十六进制,每个请求一个",
        "32 lower-case hexadecimal digits drawn at random, new for each request.",
    ),
    (
        sign::SIGNATURE,
        "签名,64 位小写十六进制",
        "HMAC-SHA-256 of the seven lines with the terminal's key, 64 lower-case hexadecimal digits.",
    ),
];

/// The document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Schemas::openapi();
    let about = "Every request is signed by the terminal, answers by the edge in \
                 x-yika-answer-signature. Not signed are refusals of a request whose terminal is not proved: 404, 405, 408, \
                 413, bad_header, unknown_terminal, other_campus, wrong_key_version, bad_signature, and 503 while no key can \
                 be read. Nothing was decided then. The readable page beside this document has the rules and a worked \
                 example.";
    document.info.description = Some(about.to_owned());
    document.info.license = None;
    let requirement = HEADERS
        .iter()
        .fold(SecurityRequirement::default(), |all, (name, ..)| all.add::<&str, [&str; 0], &str>(name, []));
    if let Some(components) = &mut document.components {
        for (name, _, about) in HEADERS {
            let header = ApiKeyValue::with_description(name, about);
            components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(header)));
        }
    }
    for route in Route::ALL {
        let method = if route.is_read() { HttpMethod::Get } else { HttpMethod::Post };
        let item = PathItem::new(method, operation(route).security(requirement.clone()));
        document.paths.paths.insert(format!("{PREFIX}{}", route.path()), item);
    }
    document
}

pub(super) async fn show() -> impl IntoResponse {
    axum::Json(openapi())
}

fn operation(route: Route) -> OperationBuilder {
    let (zh, en) = route.summary();
    let (request, answer) = messages(route);
    let mut operation = OperationBuilder::new()
        .operation_id(Some(format!("{route:?}")))
        .summary(Some(en))
        .description(Some(zh))
        .responses(responses(answer));
    for (name, required, meaning) in route.query() {
        let parameter = ParameterBuilder::new()
            .name(*name)
            .parameter_in(ParameterIn::Query)
            .required(if *required { Required::True } else { Required::False })
            .description(Some(meaning.1))
            .schema(Some(Schema::Object(ObjectBuilder::new().schema_type(Type::Integer).build())));
        operation = operation.parameter(parameter.build());
    }
    if let Some(request) = request {
        let body = RequestBodyBuilder::new().content("application/json", content(request));
        operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
    }
    operation
}

fn responses(answer: &str) -> utoipa::openapi::Responses {
    let good = ResponseBuilder::new().description("Answered").content("application/json", content(answer));
    let mut responses = ResponsesBuilder::new().response("200", good.build());
    let mut statuses: Vec<_> = Code::ALL.iter().map(|code| code.status()).collect();
    statuses.sort();
    statuses.dedup();
    for status in statuses {
        let words: Vec<_> = Code::ALL.iter().filter(|code| code.status() == status).map(|code| code.word()).collect();
        let refusal =
            ResponseBuilder::new().description(words.join(", ")).content("application/json", content("Problem"));
        responses = responses.response(status.as_str(), refusal.build());
    }
    responses.build()
}

fn content(schema: &str) -> Content {
    Content::new(Some(RefOr::<Schema>::Ref(Ref::from_schema_name(schema))))
}

/// Names of the request's and answer's schemas.
fn messages(route: Route) -> (Option<&'static str>, &'static str) {
    match route {
        Route::SignIn => (Some("SignIn"), "SignedIn"),
        Route::Time => (None, "TimeAnswer"),
        Route::Heartbeat => (Some("Heartbeat"), "HeartbeatAnswer"),
        Route::Parameters => (None, "ParametersAnswer"),
        Route::Blocks => (None, "ListDelta_BlockLine"),
        Route::Cards => (None, "ListDelta_CardLine"),
        Route::Purchase => (Some("Purchase"), "SaleAnswer"),
        Route::Reversal => (Some("Reversal"), "SaleAnswer"),
        Route::Refund => (Some("Refund"), "SaleAnswer"),
        Route::Batch => (Some("Batch"), "BatchAnswer"),
        Route::Totals => (None, "Totals"),
        Route::Swipe => (Some("Swipe"), "SwipeAnswer"),
    }
}
