//! JSON objects that are built key by key, so that a command needs no struct for each document that it prints.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A JSON object that keeps its keys in insertion order, like the fields of a struct.
///
/// `serde_json::json!` sorts the keys. Its feature `preserve_order` would change the order in files of Codex that are
/// read and written again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonObject<F>(F);

/// The fields of a [`JsonObject`].
pub(crate) trait JsonFields {
    /// Writes the fields in their order.
    ///
    /// # Errors
    /// A value cannot be serialized, or the output fails.
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonField<V>(&'static str, V);

/// Returns an object without keys.
pub(crate) fn object() -> JsonObject<()> {
    JsonObject(())
}

/// Returns the JSON name of an enum variant without fields, which is also shown to people.
pub(crate) fn variant_name(variant: impl Serialize) -> String {
    let name = serde_json::to_value(variant).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

impl<F: JsonFields> JsonObject<F> {
    /// Adds a key. `None` is written as `null`.
    pub(crate) fn with<V: Serialize>(
        self,
        key: &'static str,
        value: V,
    ) -> JsonObject<(F, JsonField<V>)> {
        JsonObject((self.0, JsonField(key, value)))
    }

    /// Adds the keys of another object.
    pub(crate) fn and<G: JsonFields>(self, other: JsonObject<G>) -> JsonObject<(F, G)> {
        JsonObject((self.0, other.0))
    }
}

impl JsonFields for () {
    fn write<M: SerializeMap>(&self, _map: &mut M) -> Result<(), M::Error> {
        Ok(())
    }
}

impl<V: Serialize> JsonFields for JsonField<V> {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry(self.0, &self.1)
    }
}

impl<F: JsonFields, G: JsonFields> JsonFields for (F, G) {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.0.write(map)?;
        self.1.write(map)
    }
}

impl<F: JsonFields> Serialize for JsonObject<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.0.write(&mut map)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order() {
        let inner = object().with("z", 1).with("a", None::<u8>);
        let outer = object()
            .with("m", inner)
            .with("b", "text")
            .and(object().with("a", [true]));
        let text = serde_json::to_string(&outer).unwrap();
        assert_eq!(text, r#"{"m":{"z":1,"a":null},"b":"text","a":[true]}"#);
    }
}
