-- Movements that operators asked for at headquarters: under which number, who, and why. Written with the movement itself, so
-- that a slip names its teller and what undoes something names what it undoes. Appended only.
CREATE TABLE vouchers (
    source   BLOB    NOT NULL PRIMARY KEY, -- of the transfers that it posted
    kind     TEXT    NOT NULL, -- top_up, withdrawal, undo or refund
    object   TEXT    NOT NULL, -- the person (p17) or the sale (t5-1-204)
    request  TEXT    NOT NULL, -- number made by the asker
    of       BLOB,             -- source of what it undoes
    reason   TEXT    NOT NULL, -- in the operator's words, or empty
    who      TEXT    NOT NULL,
    operator INTEGER NOT NULL,
    shift    INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX vouchers_by_object ON vouchers (object, at_ms);
CREATE INDEX vouchers_by_of ON vouchers (of) WHERE of IS NOT NULL;
