-- Why headquarters doubts the price of a sale, and what it would be; empty where it comes to the same.
ALTER TABLE sales ADD COLUMN doubt TEXT;
ALTER TABLE sales ADD COLUMN due INTEGER;
