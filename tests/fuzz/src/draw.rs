//! Any value of a type that serde knows: a deserializer that reads chance instead of bytes.
//!
//! So every entry kind and message, also those that are added later, has values without a line here. Leaves to others: types
//! that must be told what comes (JSON with tags), and whether a value makes sense.

use crate::dice::Dice;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use std::fmt;

/// Most elements of a drawn sequence.
const ELEMENTS_MAX: usize = 4;
/// Texts as people write them.
const TEXTS: [&str; 8] = ["", "a", "东校区", "t1-1-1", "east-2", "午餐", "\u{1F35A}", "c3/0012"];

/// Draws a value; `None` when the type needs to be told what comes.
pub fn draw<T: DeserializeOwned>(dice: &mut Dice) -> Option<T> {
    T::deserialize(Draw { dice, first: None }).ok()
}

/// Draws a value of an enumeration by the number of its variant; `None` beyond the last.
pub fn draw_variant<T: DeserializeOwned>(dice: &mut Dice, variant: u32) -> Option<T> {
    T::deserialize(Draw { dice, first: Some(variant) }).ok()
}

/// A type that cannot be drawn.
#[derive(Debug)]
struct Undrawn(String);

impl fmt::Display for Undrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Undrawn {}

impl de::Error for Undrawn {
    fn custom<T: fmt::Display>(words: T) -> Self {
        Undrawn(words.to_string())
    }
}

struct Draw<'d> {
    dice: &'d mut Dice,
    /// The variant to take of the enumeration that comes first.
    first: Option<u32>,
}

macro_rules! numbers {
    ($($name:ident $visit:ident $type:ty),*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
            visitor.$visit(self.dice.edge() as $type)
        })*
    };
}

impl<'de> Deserializer<'de> for Draw<'_> {
    type Error = Undrawn;

    numbers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_i128 visit_i128 i128, deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128
    );

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Undrawn> {
        Err(Undrawn("a type that must be told what comes".to_owned()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        visitor.visit_bool(self.dice.once_in(2))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_any(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_any(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        visitor.visit_char('园')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        let text: &&str = self.dice.pick(&TEXTS);
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        let bytes: Vec<u8> = (0..self.dice.below(40)).map(|_| self.dice.any() as u8).collect();
        visitor.visit_byte_buf(bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        if self.dice.once_in(2) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Undrawn> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Undrawn> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        let left = self.dice.below(ELEMENTS_MAX + 1);
        visitor.visit_seq(Elements { dice: self.dice, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Undrawn> {
        visitor.visit_seq(Elements { dice: self.dice, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Undrawn> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        let left = self.dice.below(ELEMENTS_MAX + 1);
        visitor.visit_map(Elements { dice: self.dice, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undrawn> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undrawn> {
        let drawn = self.dice.below(variants.len()) as u32;
        let variant = self.first.unwrap_or(drawn);
        if variant as usize >= variants.len() {
            return Err(Undrawn("no such variant".to_owned()));
        }
        visitor.visit_enum(Variant { dice: self.dice, variant })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// So many elements, or pairs of them.
struct Elements<'d> {
    dice: &'d mut Dice,
    left: usize,
}

impl Elements<'_> {
    fn is_next(&mut self) -> bool {
        let is_next = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_next
    }

    fn one(&mut self) -> Draw<'_> {
        Draw { dice: self.dice, first: None }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Undrawn;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Undrawn> {
        if self.is_next() { seed.deserialize(self.one()).map(Some) } else { Ok(None) }
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = Undrawn;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Undrawn> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Undrawn> {
        seed.deserialize(self.one())
    }
}

struct Variant<'d> {
    dice: &'d mut Dice,
    variant: u32,
}

impl<'de, 'd> EnumAccess<'de> for Variant<'d> {
    type Error = Undrawn;
    type Variant = Draw<'d>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Draw<'d>), Undrawn> {
        let number: de::value::U32Deserializer<Undrawn> = self.variant.into_deserializer();
        let value = seed.deserialize(number)?;
        Ok((value, Draw { dice: self.dice, first: None }))
    }
}

impl<'de> VariantAccess<'de> for Draw<'_> {
    type Error = Undrawn;

    fn unit_variant(self) -> Result<(), Undrawn> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Undrawn> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Undrawn> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
