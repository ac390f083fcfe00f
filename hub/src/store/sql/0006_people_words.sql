-- What people are found by: name, pinyin and staff number as far as they begin with a text, and, apart from them, what
-- follows each character of a name, so that a part of it is a beginning, too. Small letters without blanks. Beside each
-- word the columns that the list is sorted by, so that a page of a common name costs no look at wide rows.
CREATE TABLE people_words (
    inner        INTEGER NOT NULL, -- 0: a beginning; 1: the rest of a name after its first characters
    word         TEXT    NOT NULL,
    person       INTEGER NOT NULL,
    campus       INTEGER NOT NULL,
    staff_number TEXT    NOT NULL,
    PRIMARY KEY (inner, word, person)
) WITHOUT ROWID;

INSERT OR IGNORE INTO people_words
    SELECT 0, replace(lower(word), ' ', ''), person, campus, staff_number FROM (
        SELECT name AS word, person, campus, staff_number FROM profiles
        UNION ALL SELECT pinyin, person, campus, staff_number FROM profiles
        UNION ALL SELECT staff_number, person, campus, staff_number FROM profiles)
    WHERE replace(word, ' ', '') <> '';
WITH RECURSIVE place(k) AS (SELECT 2 UNION ALL SELECT k + 1 FROM place WHERE k < 25)
INSERT OR IGNORE INTO people_words
    SELECT 1, substr(word, k), person, campus, staff_number
    FROM (SELECT replace(lower(name), ' ', '') AS word, person, campus, staff_number FROM profiles)
    JOIN place ON k <= length(word);

DROP INDEX profiles_by_name;
DROP INDEX profiles_by_staff;
DROP INDEX profiles_by_plain_pinyin;
