//! Apache Parquet, row group by row group, through the `parquet` crate without Arrow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Number, Value};

use super::{BadRecord, FileRecords, Place, Record, RecordReader};
use crate::inputs::{Counter, InputFile};

/// Characters of an error of the crate that are shown.
const LONGEST_ERROR: usize = 160;

/// The records of a Parquet file; only the columns that are wanted are read.
pub(super) fn open<'a>(
    input: &InputFile,
    file: Arc<str>,
    only: Option<&[String]>,
    counter: Counter,
) -> Result<FileRecords<'a>, BadRecord> {
    let whole = |found: String| {
        BadRecord::last(Place { file: file.clone(), unit: "row", number: 0 }, found)
    };
    let opened = input.file().map_err(|error| whole(format!("cannot read: {error}")))?;
    let reader = guarded(|| SerializedFileReader::new(opened)).map_err(whole)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns: Vec<_> = schema
        .get_fields()
        .iter()
        .filter(|column| only.is_none_or(|only| only.iter().any(|name| name == column.name())))
        .cloned()
        .collect();
    if columns.is_empty() {
        let names: Vec<_> = schema.get_fields().iter().map(|column| column.name()).collect();
        let wanted = only.unwrap_or_default().join(", ");
        return Err(whole(format!("no column {wanted}; its columns are: {}", names.join(", "))));
    }
    let projection = Type::group_type_builder(schema.name()).with_fields(columns).build();
    let projection = projection.map_err(|error| whole(error.to_string()))?;
    Ok(Box::new(Rows {
        reader,
        schema: Arc::new(SchemaDescriptor::new(Arc::new(projection))),
        next_group: 0,
        rows: None,
        file,
        number: 0,
        counter,
        ended: false,
    }))
}

struct Rows {
    reader: SerializedFileReader<std::fs::File>,
    schema: Arc<SchemaDescriptor>,
    next_group: usize,
    rows: Option<ReaderIter>,
    file: Arc<str>,
    number: u64,
    counter: Counter,
    ended: bool,
}

impl Rows {
    fn step(&mut self) -> Result<Option<Map<String, Value>>, String> {
        loop {
            if let Some(row) = guarded(|| self.rows.as_mut().and_then(Iterator::next).transpose())?
            {
                return Ok(Some(object(row)));
            }
            if self.next_group == self.reader.num_row_groups() {
                return Ok(None);
            }
            let (index, schema) = (self.next_group, self.schema.clone());
            let rows = guarded(|| {
                let group = self.reader.get_row_group(index)?;
                TreeBuilder::new().as_iter(schema, &*group)
            })?;
            let size = self.reader.metadata().row_group(index).compressed_size();
            self.counter.add(u64::try_from(size).unwrap_or(0));
            self.rows = Some(rows);
            self.next_group += 1;
        }
    }
}

impl RecordReader for Rows {
    /// Row groups are left out without being read.
    fn skip_some(&mut self, most: u64) -> u64 {
        let mut skipped = 0;
        while self.rows.is_none() && self.next_group < self.reader.num_row_groups() {
            let group = self.reader.metadata().row_group(self.next_group);
            let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
            if rows > most - skipped {
                break;
            }
            self.counter.add(u64::try_from(group.compressed_size()).unwrap_or(0));
            skipped += rows;
            self.next_group += 1;
        }
        self.number += skipped;
        skipped
    }
}

impl Iterator for Rows {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.number += 1;
        let step = self.step();
        let place = Place { file: self.file.clone(), unit: "row", number: self.number };
        match step {
            Ok(Some(fields)) => Some(Ok(Record { place, fields })),
            Ok(None) => None,
            Err(found) => {
                self.ended = true;
                Some(Err(BadRecord::last(place, found)))
            }
        }
    }
}

/// The crate returns errors for most damaged files and panics at some.
fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            // Some errors carry the whole value at fault.
            let what: String = error.to_string().chars().take(LONGEST_ERROR).collect();
            Err(format!("not a whole Parquet file ({what}); it is cut short or damaged"))
        }
        Err(_) => Err("a damaged Parquet file; expected one that pyarrow reads".to_owned()),
    }
}

fn object(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

/// A field as JSON. Numbers that JSON lacks (NaN, infinities) become null, as in JavaScript; dates and
/// times become text.
fn value(field: Field) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float16(value) => float(value.into()),
        Field::Float(value) => float(value.into()),
        Field::Double(value) => float(value),
        Field::Str(value) => value.into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            // JSON has no bytes. An object is never taken for a text.
            Err(_) => serde_json::json!({ "bytes": bytes.len() }),
        },
        Field::Group(row) => object(row).into(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => Value::Object(
            map.entries().iter().cloned().map(|(key, item)| (key_name(key), value(item))).collect(),
        ),
        other => other.to_string().into(),
    }
}

fn key_name(key: Field) -> String {
    match value(key) {
        Value::String(name) => name,
        other => other.to_string(),
    }
}
