//! The closed list of refusals of the interface itself, with words for the terminal's maker (POS-25).
//!
//! A refusal means: nothing was decided under the request's id. Refusals of a decision (not enough money, blocked …)
//! are answers, with the codes of `yika_crdt::reason`.

use axum::http::StatusCode;
use serde_json::error::Category;
use yika_drivers::terminal::message::{BODY_LEN_BYTES_MAX, Problem, Words};
use yika_drivers::terminal::sign::{PATH_LEN_BYTES_MAX, SignatureError};

/// Why a request is not served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Code {
    /// A signing header is absent, repeated or not in its form.
    BadHeader,
    /// No such terminal, or its key has not reached this box.
    UnknownTerminal,
    /// The terminal is registered at another campus.
    OtherCampus,
    /// Signed with an old or future key.
    WrongKeyVersion,
    /// The signature is not of this key and request.
    BadSignature,
    /// The terminal's clock is out of the window, or the request lay about too long.
    StaleClock,
    /// The terminal used the nonce within the window.
    Replayed,
    /// The terminal is suspended.
    Suspended,
    /// The terminal is scrapped.
    Scrapped,
    /// This kind of terminal has no business on this route.
    WrongKind,
    /// The body did not arrive in time.
    SlowBody,
    /// The body is too long.
    BodyTooLarge,
    /// The body is not the message of this route.
    BadBody,
    /// The query is not that of this route.
    BadQuery,
    /// The id is another terminal's, or its number is 0.
    BadId,
    /// The amount cannot be one of a sale or refund.
    BadAmount,
    /// The card text is not in its form.
    BadCard,
    /// A batch is too long or not in ascending order.
    BadBatch,
    /// No operator of that number is known here.
    UnknownOperator,
    /// The id was used before with another body.
    IdReused,
    /// The box cannot write.
    BoxNotReady,
    /// No such route.
    NotFound,
    /// The route is used with another method.
    BadMethod,
}

use Code::*;

impl Code {
    /// Every code, as the page lists them.
    pub const ALL: [Code; 23] = [
        BadHeader,
        UnknownTerminal,
        OtherCampus,
        WrongKeyVersion,
        BadSignature,
        StaleClock,
        Replayed,
        Suspended,
        Scrapped,
        WrongKind,
        SlowBody,
        BodyTooLarge,
        BadBody,
        BadQuery,
        BadId,
        BadAmount,
        BadCard,
        BadBatch,
        UnknownOperator,
        IdReused,
        BoxNotReady,
        NotFound,
        BadMethod,
    ];

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            BadHeader => "bad_header",
            UnknownTerminal => "unknown_terminal",
            OtherCampus => "other_campus",
            WrongKeyVersion => "wrong_key_version",
            BadSignature => "bad_signature",
            StaleClock => "stale_clock",
            Replayed => "replayed",
            Suspended => "suspended",
            Scrapped => "scrapped",
            WrongKind => "wrong_kind",
            SlowBody => "slow_body",
            BodyTooLarge => "body_too_large",
            BadBody => "bad_body",
            BadQuery => "bad_query",
            BadId => "bad_id",
            BadAmount => "bad_amount",
            BadCard => "bad_card",
            BadBatch => "bad_batch",
            UnknownOperator => "unknown_operator",
            IdReused => "id_reused",
            BoxNotReady => "box_not_ready",
            NotFound => "not_found",
            BadMethod => "bad_method",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            BadHeader | BadBody | BadQuery => StatusCode::BAD_REQUEST,
            UnknownTerminal | WrongKeyVersion | BadSignature | StaleClock => StatusCode::UNAUTHORIZED,
            OtherCampus | Suspended | Scrapped | WrongKind => StatusCode::FORBIDDEN,
            Replayed | IdReused => StatusCode::CONFLICT,
            SlowBody => StatusCode::REQUEST_TIMEOUT,
            BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BadId | BadAmount | BadCard | BadBatch | UnknownOperator => StatusCode::UNPROCESSABLE_ENTITY,
            BoxNotReady => StatusCode::SERVICE_UNAVAILABLE,
            NotFound => StatusCode::NOT_FOUND,
            BadMethod => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// What is wrong.
    pub fn message(self) -> (&'static str, &'static str) {
        match self {
            BadHeader => ("签名请求头缺失或格式不对", "a signing header is missing or malformed"),
            UnknownTerminal => ("本节点不认识该终端", "this box does not know the terminal"),
            OtherCampus => ("该终端登记在其他园区", "the terminal is registered at another campus"),
            WrongKeyVersion => ("终端密钥版本不符", "the terminal's key version is not the present one"),
            BadSignature => ("签名不符", "the signature does not match"),
            StaleClock => ("终端时钟超出允许范围", "the request's time is outside the window"),
            Replayed => ("该请求已收到过(随机数重复)", "the nonce was used before"),
            Suspended => ("终端已停用", "the terminal is suspended"),
            Scrapped => ("终端已报废", "the terminal is scrapped"),
            WrongKind => ("此类终端不可使用该接口", "this kind of terminal may not use this route"),
            SlowBody => ("请求内容未及时送达", "the body did not arrive in time"),
            BodyTooLarge => ("请求内容过长", "the body is too long"),
            BadBody => ("请求内容格式不对", "the body is not the message of this route"),
            BadQuery => ("查询参数不对", "the query is not that of this route"),
            BadId => ("流水号不属于本终端或为 0", "the id is not this terminal's, or its number is 0"),
            BadAmount => ("金额无效", "the amount is not possible"),
            BadCard => ("卡号格式不对", "the card is not in its form"),
            BadBatch => ("批次过长或顺序不对", "the batch is too long or not in order"),
            UnknownOperator => ("本节点不认识该操作员", "this box does not know the operator"),
            IdReused => ("流水号已用于另一笔交易", "the id was used before with another body"),
            BoxNotReady => ("本节点暂时不能服务", "the box cannot serve at the moment"),
            NotFound => ("没有这个接口", "there is no such route"),
            BadMethod => ("请求方法不对", "the route takes another method"),
        }
    }

    /// What the terminal or its maker should do.
    pub fn mend(self) -> (&'static str, &'static str) {
        match self {
            BadHeader => ("按接口说明设置六个签名头", "send the six signing headers as described"),
            UnknownTerminal => {
                ("检查终端编号;新登记的终端请等待密钥下发", "check the number; a new key may still be on its way")
            }
            OtherCampus => {
                ("接入它所属园区的节点,或在总部登记到本园区", "connect to a box of its campus, or register it here")
            }
            WrongKeyVersion => ("在管理端取新密钥并装入终端", "load the key that was shown at the last registration"),
            BadSignature => (
                "检查密钥,并确认签名的字节就是发送的字节",
                "check the key, and that the bytes signed are the bytes sent",
            ),
            StaleClock => {
                ("按 server_time_ms 校时后重新签名发送", "set the clock by server_time_ms, sign again, send again")
            }
            Replayed => ("换新随机数重新签名;业务流水号不变", "draw a new nonce and sign again; keep the same id"),
            Suspended => {
                ("锁定终端,记录保留,等待启用", "lock the terminal, keep its records until it is deployed again")
            }
            Scrapped => ("停止使用该终端", "stop using the terminal"),
            WrongKind => ("检查终端登记的类型", "check the kind it is registered as"),
            SlowBody => ("用同一流水号重发", "send again with the same id"),
            BodyTooLarge => ("缩短批次后重发", "send smaller batches"),
            BadBody => ("按接口文档修改,未知字段不接受", "follow the document; unknown fields are refused"),
            BadQuery => ("按接口文档修改查询参数", "follow the document"),
            BadId => ("使用本终端编号,序号从 1 起", "use this terminal's number, and count from 1"),
            BadAmount => ("以分为单位,大于 0 且不超过单笔上限", "use fen, above 0 and below the largest purchase"),
            BadCard => ("检查读卡器格式设置", "check the reader's format setting"),
            BadBatch => ("每批最多 200 笔,按启动号和序号递增", "at most 200 records, ascending by boot and sequence"),
            UnknownOperator => (
                "使用本园区操作员的编号,无人登录时填 0;新增的操作员请等待下发",
                "send the number of an operator of this campus, 0 while nobody is signed in; a new one may be on its way",
            ),
            IdReused => ("换新流水号;原交易用冲正处理", "draw a new id; undo the earlier one by a reversal"),
            BoxNotReady => ("稍后用同一流水号重发", "send again later with the same id"),
            NotFound => ("见 /terminal/v1/", "see /terminal/v1/"),
            BadMethod => ("见 /terminal/v1/", "see /terminal/v1/"),
        }
    }
}

/// A refusal with what is particular to the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which.
    pub code: Code,
    /// What exactly, for the maker; never a secret or a card number. Empty in Chinese where only a log can use it.
    pub detail: Option<Words>,
}

impl Refusal {
    /// A refusal that says what exactly.
    pub fn because(code: Code, zh: impl Into<String>, en: impl Into<String>) -> Refusal {
        Refusal { code, detail: Some(Words::new(zh, en)) }
    }

    /// A failure of the box itself: the terminal's user is told that it cannot serve, the log why.
    pub fn not_ready(cause: impl ToString) -> Refusal {
        Refusal::because(BoxNotReady, "", cause.to_string())
    }

    /// As sent.
    pub fn problem(&self, server_time_ms: i64) -> Problem {
        let ((zh, en), (mend_zh, mend_en)) = (self.code.message(), self.code.mend());
        let joined = |what: &str, colon: &str, detail: &str| match detail {
            "" => what.to_owned(),
            detail => format!("{what}{colon}{detail}"),
        };
        let message = match &self.detail {
            Some(detail) => Words::new(joined(zh, "：", &detail.zh), joined(en, ": ", &detail.en)),
            None => Words::new(zh, en),
        };
        Problem { code: self.code.word().to_owned(), message, mend: Words::new(mend_zh, mend_en), server_time_ms }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        match code {
            BodyTooLarge => too_large(BODY_LEN_BYTES_MAX),
            code => Refusal { code, detail: None },
        }
    }
}

/// A body above the bound of its route.
pub(super) fn too_large(len_bytes_max: usize) -> Refusal {
    Refusal::because(BodyTooLarge, format!("最多 {len_bytes_max} 字节"), format!("at most {len_bytes_max} bytes here"))
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        let zh = match error {
            SignatureError::Missing(name) => format!("缺少 {name},或出现了两次"),
            SignatureError::Malformed { name, .. } => format!("{name} 不是规定的格式"),
            SignatureError::PathTooLong => format!("路径超过 {PATH_LEN_BYTES_MAX} 字节"),
            // The code and what to do about it say everything.
            SignatureError::Wrong => return BadSignature.into(),
        };
        Refusal::because(BadHeader, zh, error.to_string())
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        let en = error.to_string();
        Refusal::because(BadBody, json_words(&error, &en), en)
    }
}

/// What a JSON text lacks, in Chinese: the parser speaks English, in a few known forms.
fn json_words(error: &serde_json::Error, en: &str) -> String {
    let quoted = |head: &str| en.strip_prefix(head).and_then(|rest| rest.split('`').next());
    let what =
        [("unknown field `", "不认识的字段"), ("missing field `", "缺少字段"), ("duplicate field `", "字段重复")];
    let named = what.iter().find_map(|(head, zh)| quoted(head).map(|field| format!("{zh} {field}")));
    let what = named.unwrap_or_else(|| match error.classify() {
        Category::Eof => "内容不完整".to_owned(),
        Category::Syntax | Category::Io => "不是 JSON".to_owned(),
        Category::Data if en.starts_with("unknown variant `") => "有一个值不在规定的范围内".to_owned(),
        Category::Data => "有一个值的类型或大小不对".to_owned(),
    });
    format!("{what}(第 {} 行第 {} 列)", error.line(), error.column())
}

impl From<crate::node::Busy> for Refusal {
    fn from(busy: crate::node::Busy) -> Self {
        Refusal::not_ready(busy)
    }
}

impl From<yika_crdt::store::StoreError> for Refusal {
    fn from(error: yika_crdt::store::StoreError) -> Self {
        Refusal::not_ready(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_its_own_word_and_an_error_status() {
        let words: BTreeSet<_> = Code::ALL.iter().map(|c| c.word()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|c| c.status().is_client_error() || c.status().is_server_error()));
    }

    #[test]
    fn what_exactly_is_wrong_is_said_in_both_languages_and_once() {
        let body = |text| serde_json::from_str::<yika_drivers::terminal::message::SaleId>(text).map_err(Refusal::from);
        let said = |refusal: Refusal| refusal.problem(0).message;
        let refused = [
            (body(r#"{"terminal":1,"boot":1,"seq":1,"pin":1}"#).err(), "不认识的字段 pin"),
            (body(r#"{"terminal":1,"boot":1}"#).err(), "缺少字段 seq"),
            (body(r#"{"terminal":1,"#).err(), "内容不完整"),
            (body(r#"{"terminal":-1,"boot":1,"seq":1}"#).err(), "类型或大小"),
            (body("sale").err(), "不是 JSON"),
            (Some(SignatureError::Missing("x-yika-key").into()), "缺少 x-yika-key"),
            (Some(too_large(64)), "最多 64 字节"),
            (Some(Refusal::not_ready("disk I/O error")), "本节点暂时不能服务"),
        ];
        for (refusal, zh) in refused {
            let words = refusal.map(said).unwrap_or_default();
            assert!(words.zh.contains(zh) && !words.en.is_empty(), "{words:?}");
            let english = words.zh.split(|c: char| !c.is_ascii_lowercase()).filter(|word| word.len() > 2).count();
            assert!(english <= 3, "{}", words.zh);
        }
        let wrong = said(SignatureError::Wrong.into());
        assert_eq!(wrong.en, "the signature does not match");
    }
}
