-- What pages look up: people in the order of their list and by plain pinyin, refusals of a card, acts on an object.
DROP INDEX profiles_by_pinyin;
DROP INDEX profiles_by_campus;
CREATE INDEX profiles_by_order ON profiles (campus, staff_number, person);
CREATE INDEX profiles_by_plain_pinyin ON profiles (replace(lower(pinyin), ' ', ''));
CREATE INDEX refusals_by_card ON refusals (card, at_ms);
CREATE INDEX audit_by_object ON audit (object, number);
