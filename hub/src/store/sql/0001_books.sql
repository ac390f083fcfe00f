-- The hub's own tables beside feeds and state: books, journals as reports see them, people's private part, operators.
-- Money in fen. Times in milliseconds since 1970 (UTC). Days as days since 1970-01-01. No row of the books is ever changed.

-- One movement of money. The turn that applies a journal entry writes its transfers; the feed's chain makes each entry come once.
CREATE TABLE transfers (
    source    BLOB    NOT NULL, -- hash of the entry or act it follows from
    part      INTEGER NOT NULL, -- number within the source
    kind      TEXT    NOT NULL,
    debit     TEXT    NOT NULL, -- account it leaves
    credit    TEXT    NOT NULL, -- account it arrives at
    amount    INTEGER NOT NULL CHECK (amount > 0),
    day       INTEGER NOT NULL, -- day of origin (day eaten)
    posted_ms INTEGER NOT NULL,
    person    INTEGER           -- holder on either side, if any
);
CREATE INDEX transfers_by_person ON transfers (person) WHERE person IS NOT NULL;

-- Sums of transfers by account, written once per turn.
CREATE TABLE accounts (
    account TEXT    NOT NULL PRIMARY KEY,
    credits INTEGER NOT NULL,
    debits  INTEGER NOT NULL,
    person  INTEGER
) WITHOUT ROWID;
CREATE INDEX accounts_by_person ON accounts (person) WHERE person IS NOT NULL;

-- Where a box has written two branches, two rows stand at one place.
CREATE TABLE sales (
    node        INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    counter     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    day         INTEGER NOT NULL,
    terminal    INTEGER NOT NULL,
    boot        INTEGER NOT NULL,
    serial      INTEGER NOT NULL,
    card        INTEGER NOT NULL,
    person      INTEGER NOT NULL,
    category    INTEGER NOT NULL,
    outlet      INTEGER NOT NULL,
    merchant    INTEGER NOT NULL,
    mode        TEXT    NOT NULL,
    period      INTEGER,
    price       INTEGER NOT NULL,
    adjustment  INTEGER NOT NULL,
    total       INTEGER NOT NULL,
    balance     INTEGER NOT NULL,
    offline     INTEGER NOT NULL,
    paid        TEXT    NOT NULL -- sources, as `wallet:fen` separated by spaces
);
CREATE INDEX sales_by_place ON sales (node, generation, counter, seq);
CREATE INDEX sales_by_time ON sales (at_ms);
CREATE INDEX sales_by_person ON sales (person, at_ms);
CREATE INDEX sales_by_id ON sales (terminal, boot, serial);

CREATE TABLE refunds (
    node       INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    counter    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    terminal   INTEGER NOT NULL, -- its own id
    boot       INTEGER NOT NULL,
    serial     INTEGER NOT NULL,
    of_terminal INTEGER NOT NULL, -- the sale's id
    of_boot    INTEGER NOT NULL,
    of_serial  INTEGER NOT NULL,
    person     INTEGER NOT NULL,
    merchant   INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    operator   INTEGER NOT NULL
);
-- Several rows may stand at one place: the hub's own refunds of a sale stand where the sale does.
CREATE INDEX refunds_by_place ON refunds (node, generation, counter, seq);
CREATE INDEX refunds_by_time ON refunds (at_ms);
CREATE INDEX refunds_by_person ON refunds (person, at_ms);
CREATE INDEX refunds_by_sale ON refunds (of_terminal, of_boot, of_serial);

CREATE TABLE refusals (
    node       INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    counter    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    terminal   INTEGER NOT NULL,
    boot       INTEGER NOT NULL,
    serial     INTEGER NOT NULL,
    card       INTEGER NOT NULL,
    reason     TEXT    NOT NULL
);
CREATE INDEX refusals_by_place ON refusals (node, generation, counter, seq);
CREATE INDEX refusals_by_time ON refusals (at_ms);

CREATE TABLE door_events (
    node       INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    counter    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    door       INTEGER NOT NULL,
    terminal   INTEGER,
    card       INTEGER,
    person     INTEGER,
    event      TEXT    NOT NULL,
    reason     TEXT
);
CREATE INDEX door_events_by_place ON door_events (node, generation, counter, seq);
CREATE INDEX door_events_by_time ON door_events (at_ms);

-- Acts and alarms of edges.
CREATE TABLE notes (
    node       INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    counter    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    kind       TEXT    NOT NULL, -- act or alarm
    word       TEXT    NOT NULL,
    detail     TEXT    NOT NULL
);
-- Several rows may stand at one place: one entry can give rise to more than one alarm.
CREATE INDEX notes_by_place ON notes (node, generation, counter, seq);
CREATE INDEX notes_by_time ON notes (at_ms);

-- What only headquarters knows of a person. Number and contact are sealed under the hub's master key.
CREATE TABLE profiles (
    person          INTEGER NOT NULL PRIMARY KEY,
    id_hash         BLOB    NOT NULL UNIQUE, -- keyed hash of type and number
    id_type         TEXT    NOT NULL,
    id_sealed       BLOB    NOT NULL,
    contact_sealed  BLOB    NOT NULL,
    name            TEXT    NOT NULL,
    pinyin          TEXT    NOT NULL,
    sex             TEXT    NOT NULL,
    id_valid_from   TEXT    NOT NULL, -- ISO date or empty
    id_valid_until  TEXT    NOT NULL,
    department      TEXT    NOT NULL,
    department_code TEXT    NOT NULL,
    staff_number    TEXT    NOT NULL,
    category        TEXT    NOT NULL,
    campus          INTEGER NOT NULL,
    card            INTEGER,
    card_uid        TEXT    NOT NULL,
    photo           TEXT    NOT NULL,
    changed_ms      INTEGER NOT NULL
);
CREATE INDEX profiles_by_name ON profiles (name);
CREATE INDEX profiles_by_pinyin ON profiles (pinyin);
CREATE INDEX profiles_by_staff ON profiles (staff_number);
CREATE INDEX profiles_by_card ON profiles (card);
CREATE INDEX profiles_by_campus ON profiles (campus, person);

CREATE TABLE operators (
    operator         INTEGER NOT NULL PRIMARY KEY,
    login            TEXT    NOT NULL UNIQUE,
    name             TEXT    NOT NULL,
    role             TEXT    NOT NULL,
    campus           INTEGER, -- NULL: all campuses
    verifier         TEXT    NOT NULL,
    must_change      INTEGER NOT NULL,
    active           INTEGER NOT NULL,
    credential_epoch INTEGER NOT NULL,
    changed_ms       INTEGER NOT NULL
);

-- Keys of terminals, sealed under the hub's master key.
CREATE TABLE terminal_keys (
    terminal INTEGER NOT NULL PRIMARY KEY,
    version  INTEGER NOT NULL,
    sealed   BLOB    NOT NULL
);

-- What operators did at headquarters. Appended only.
CREATE TABLE audit (
    number  INTEGER NOT NULL PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    act     TEXT    NOT NULL,
    object  TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    origin  TEXT    NOT NULL -- address or `console`
);
