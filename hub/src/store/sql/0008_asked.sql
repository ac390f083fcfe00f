-- What a refused purchase or refund was about: how it was keyed, and the sum where one was keyed. Older rows do not say.
ALTER TABLE refusals ADD COLUMN mode TEXT;
ALTER TABLE refusals ADD COLUMN asked INTEGER;
