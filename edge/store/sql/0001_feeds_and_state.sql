-- Feeds and state rows, the two things every node keeps.
--
-- `feeds.feed` holds the canonical bytes of the feed's name. `pruned_hash` is the chain hash at `pruned`, so that
-- the entries still held can be recomputed up to `hash`; NULL where the feed was taken over from the middle.
CREATE TABLE feeds (
    id INTEGER PRIMARY KEY,
    feed BLOB NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    pruned INTEGER NOT NULL,
    pruned_hash BLOB
) STRICT;

-- `at` is (feed id << 40) | seq: one integer key keeps a feed's entries side by side, compares without decoding a
-- record, lets leaves hold bodies up to a page, and appends at the right edge of the feed's own range.
CREATE TABLE entries (
    at INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE VIEW entries_by_feed AS
    SELECT feeds.feed AS feed, entries.at & 0xFFFFFFFFFF AS seq, entries.body AS body
    FROM entries JOIN feeds ON feeds.id = entries.at >> 40;

CREATE TABLE heads (
    at INTEGER PRIMARY KEY,
    head BLOB NOT NULL
) STRICT;

-- `sum` is the CRC-32 of key and value: a flipped bit in a counter must not be spent.
CREATE TABLE state (
    key BLOB PRIMARY KEY,
    value BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Versions of the tables that a product keeps in the same file.
CREATE TABLE products (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Written and emptied to learn whether a device that refused takes writes again.
CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    filler BLOB NOT NULL
) STRICT;
