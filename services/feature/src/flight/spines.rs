//! Spines that clients have put, on disk in parts until they expire. They do not outlive the process: their directory is emptied when it is
//! opened.

use super::room::{Bounds, Counted, Room, Share, failed};
use arrow_array::{Array as _, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::concat::concat_batches;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use thyme_core::time::{Clock, Micros};
use thyme_core::{Error, Result};
use uuid::Uuid;

/// Rows of a part: as many as the largest chunk of an export has.
pub(crate) const PART_ROWS: usize = 262_144;
/// How long a spine is kept after it was put or last asked about.
const KEPT: Micros = 3_600_000_000;
/// How often is looked for what has expired.
const SWEEP: Duration = Duration::from_secs(60);
/// A chunk that is read back holds about this many bytes of the spine at most, or one batch as it was written.
const CHUNK_BYTES: usize = 32 << 20;
/// What is gathered before it is written.
const BUFFER_BYTES: usize = 1 << 20;

/// All that are on this node.
pub struct Spines {
    root: PathBuf,
    clock: Arc<dyn Clock>,
    room: Arc<Room>,
    part_rows: usize,
    held: Mutex<HashMap<Uuid, Arc<Spine>>>,
}

impl Spines {
    /// Empties the directory, and makes it if needed: for this user only.
    pub fn open(root: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Spines>> {
        Spines::open_within(root, clock, Bounds::OF_A_SERVER, PART_ROWS)
    }

    pub(crate) fn open_within(
        root: &Path,
        clock: Arc<dyn Clock>,
        bounds: Bounds,
        part_rows: usize,
    ) -> Result<Arc<Spines>> {
        let emptied = match std::fs::remove_dir_all(root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => DirBuilder::new().mode(0o700).create(root),
        };
        emptied.map_err(|error| failed("emptying the directory of uploaded spines", &error))?;
        let (root, room, held) = (root.to_path_buf(), Room::new(root, bounds), Mutex::default());
        Ok(Arc::new(Spines { root, clock, room, part_rows, held }))
    }

    /// Begins an upload. It leaves nothing unless it is [finished](Incoming::finish).
    pub(crate) fn begin(self: Arc<Self>, schema: SchemaRef) -> Result<Incoming> {
        // 122 random bits: whoever does not know the id cannot guess it.
        let id = Uuid::new_v4();
        let path = self.root.join(id.to_string());
        std::fs::create_dir(&path).map_err(|error| failed("making the directory of a spine", &error))?;
        let (share, directory) = (self.room.share(), Directory(path));
        Ok(Incoming { part: None, directory, share, spines: self, id, schema, rows: 0, parts: 0 })
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Spine>> {
        let key = parse(id)?;
        let mut held = self.held.lock();
        let found = held.get(&key).cloned().ok_or_else(|| gone(id))?;
        if found.expires() > self.clock.now() {
            return Ok(found);
        }
        held.remove(&key);
        drop(held);
        Err(gone(id))
    }

    /// Keeps it for as long again, and tells until when.
    pub(crate) fn renew(&self, id: &str) -> Result<Micros> {
        let expires = self.clock.now() + KEPT;
        self.get(id)?.expires.store(expires, Ordering::Relaxed);
        Ok(expires)
    }

    /// What reads it reads on.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        self.get(id)?;
        let removed = self.held.lock().remove(&parse(id)?);
        removed.map(drop).ok_or_else(|| gone(id))
    }

    fn remove_expired(&self) {
        let now = self.clock.now();
        // The files go when the lock is free again.
        let expired: Vec<_> = self.held.lock().extract_if(|_, spine| spine.expires() <= now).collect();
        drop(expired);
    }

    /// Removes what expires, as long as anybody holds them.
    pub(crate) async fn sweep(spines: Weak<Spines>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(spines) = spines.upgrade() else { return };
            let swept = tokio::task::spawn_blocking(move || spines.remove_expired());
            if let Err(error) = swept.await {
                tracing::error!(%error, "removing expired spines failed");
            }
        }
    }
}

/// Ids are parsed before a path is made of them.
fn parse(id: &str) -> Result<Uuid> {
    Uuid::parse_str(id).map_err(|_| {
        Error::invalid("not the id of a spine").field("spine").hint("pass the 'spine' that DoPut has told unchanged")
    })
}

fn gone(id: &str) -> Error {
    Error::not_found(format!("no spine {id} here; it was dropped, has expired or is on another node"))
        .field("spine")
        .hint("put it again (DoPut), then ask GetFlightInfo with the same pin")
}

/// A spine that is whole.
pub(crate) struct Spine {
    // Dropped in this order: what is taken of the room is free when the files are gone.
    directory: Directory,
    share: Arc<Share>,
    pub id: Uuid,
    pub schema: SchemaRef,
    pub rows: u64,
    pub parts: u32,
    expires: AtomicI64,
}

impl Spine {
    pub fn expires(&self) -> Micros {
        self.expires.load(Ordering::Relaxed)
    }

    /// Opens a part. It can be read to its end also if the spine goes meanwhile.
    pub fn part(&self, part: u32) -> Result<PartReader> {
        if part >= self.parts {
            let message = format!("part {part} of a spine that has {}", self.parts);
            return Err(Error::invalid(message).field("part").hint("parts are counted from 0"));
        }
        let file = File::open(self.directory.part(part)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => gone(&self.id.to_string()),
            _ => failed("opening a part of a spine", &error),
        })?;
        let batches = StreamReader::try_new(BufReader::with_capacity(BUFFER_BYTES, file), None).map_err(unreadable)?;
        Ok(PartReader { batches, waiting: None, _share: self.share.clone() })
    }
}

/// Removes itself with all that is in it.
struct Directory(PathBuf);

impl Directory {
    fn part(&self, part: u32) -> PathBuf {
        self.0.join(format!("part-{part:05}.arrow"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Without the path: the id is a secret.
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "removing an uploaded spine failed");
        }
    }
}

type PartWriter = StreamWriter<BufWriter<Counted<File>>>;

/// A spine on its way in. Dropped before it is whole, it takes its files along.
pub(crate) struct Incoming {
    // Dropped in this order: a writer writes what it has gathered.
    part: Option<PartWriter>,
    directory: Directory,
    share: Arc<Share>,
    spines: Arc<Spines>,
    id: Uuid,
    schema: SchemaRef,
    rows: u64,
    parts: u32,
}

impl Incoming {
    /// Writes the next rows, to the part that has begun and to as many more as they need.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut written = 0;
        while written < rows.num_rows() {
            let mut part = match self.part.take() {
                Some(part) => part,
                None => self.begin_part()?,
            };
            let room = self.spines.part_rows - (self.rows % self.spines.part_rows as u64) as usize;
            let count = room.min(rows.num_rows() - written);
            part.write(&rows.slice(written, count)).map_err(unwritten)?;
            (written, self.rows) = (written + count, self.rows + count as u64);
            if count == room {
                part.finish().map_err(unwritten)?;
            } else {
                self.part = Some(part);
            }
        }
        Ok(())
    }

    /// From now on it is there, for as long as spines are kept.
    pub fn finish(mut self) -> Result<Arc<Spine>> {
        // One without rows has a part too: with the schema.
        let last = match self.part.take() {
            None if self.parts == 0 => Some(self.begin_part()?),
            last => last,
        };
        last.map_or(Ok(()), |mut part| part.finish()).map_err(unwritten)?;
        let Incoming { directory, share, spines, id, schema, rows, parts, .. } = self;
        let expires = AtomicI64::new(spines.clock.now() + KEPT);
        let spine = Arc::new(Spine { directory, share, id, schema, rows, parts, expires });
        spines.held.lock().insert(id, spine.clone());
        Ok(spine)
    }

    /// Each is a stream with schema and dictionaries of its own: a file could not replace a dictionary.
    fn begin_part(&mut self) -> Result<PartWriter> {
        let file = File::create_new(self.directory.part(self.parts));
        let file = Counted::new(file.map_err(|error| failed("writing a spine", &error))?, self.share.clone());
        self.parts += 1;
        StreamWriter::try_new(BufWriter::with_capacity(BUFFER_BYTES, file), &self.schema).map_err(unwritten)
    }
}

/// Reads a part in chunks.
pub(crate) struct PartReader {
    batches: StreamReader<BufReader<File>>,
    /// What did not fit into the chunk before.
    waiting: Option<RecordBatch>,
    /// Its file is on disk until it is read.
    _share: Arc<Share>,
}

impl PartReader {
    pub fn schema(&self) -> SchemaRef {
        self.batches.schema()
    }

    /// The next rows, at most `most_rows`: the same ones each time that the part is read so.
    pub fn next_chunk(&mut self, most_rows: usize) -> Result<Option<RecordBatch>> {
        let (mut rows, mut bytes, mut chunk) = (0, 0, Vec::new());
        while rows < most_rows && bytes < CHUNK_BYTES {
            let next = match self.waiting.take() {
                Some(batch) => Some(batch),
                None => self.batches.next().transpose().map_err(unreadable)?,
            };
            let Some(mut next) = next else { break };
            if next.num_rows() > most_rows - rows {
                let fits = most_rows - rows;
                self.waiting = Some(next.slice(fits, next.num_rows() - fits));
                next = next.slice(0, fits);
            }
            rows += next.num_rows();
            bytes += slice_bytes(&next);
            chunk.push(next);
        }
        // Copied also where it is one batch: columns that were read share one buffer, which each would count as its own, and what is sent on
        // would be cut into many small messages.
        if let [only] = chunk.as_slice()
            && rows > 1
        {
            chunk = vec![only.slice(0, 1), only.slice(1, rows - 1)];
        }
        match chunk.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            several => concat_batches(&self.batches.schema(), several).map(Some).map_err(unreadable),
        }
    }
}

/// Of these rows alone: the columns of a batch that was read share one buffer, which each of them would count.
fn slice_bytes(batch: &RecordBatch) -> usize {
    let bytes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    bytes.map(|bytes| bytes.unwrap_or(0)).sum()
}

fn unwritten(error: ArrowError) -> Error {
    match &error {
        ArrowError::IoError(_, io) => failed("writing a spine", io),
        other => Error::invalid(format!("the spine cannot be kept: {other}"))
            .hint("send it through DoExchange, or leave out the column"),
    }
}

fn unreadable(error: ArrowError) -> Error {
    match &error {
        ArrowError::IoError(_, io) => failed("reading a spine", io),
        other => Error::data_loss(format!("a spine on disk is not readable: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::{Int32Type, Int64Type};
    use arrow_array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use std::os::unix::fs::PermissionsExt as _;
    use thyme_core::ErrorKind;

    const ALL: Bounds = Bounds { bytes: u64::MAX, free_bytes: 0, free_hundredths: 0 };

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Micros {
            self.0.load(Ordering::Relaxed)
        }
    }

    struct Place {
        directory: tempfile::TempDir,
        clock: Arc<Hand>,
        spines: Arc<Spines>,
    }

    impl Place {
        fn of(bounds: Bounds) -> Place {
            let directory = tempfile::tempdir().unwrap();
            let clock = Arc::new(Hand(AtomicI64::new(0)));
            let spines = Spines::open_within(&directory.path().join("spines"), clock.clone(), bounds, 10).unwrap();
            Place { directory, clock, spines }
        }

        fn put(&self, batches: &[RecordBatch]) -> Result<Arc<Spine>> {
            let mut incoming = self.spines.clone().begin(numbers(0, 0).schema())?;
            batches.iter().try_for_each(|batch| incoming.write(batch))?;
            incoming.finish()
        }

        fn entries(&self) -> usize {
            std::fs::read_dir(&self.spines.root).unwrap().count()
        }
    }

    /// Numbers with a word each; every batch has a dictionary of its own.
    fn numbers(from: i64, count: i64) -> RecordBatch {
        let words: Vec<String> = (from..from + count).map(|number| format!("w{}", number % 3)).collect();
        let words: DictionaryArray<Int32Type> = words.iter().map(|word| Some(word.as_str())).collect();
        let columns: [(&str, ArrayRef); 2] =
            [("number", Arc::new(Int64Array::from_iter_values(from..from + count))), ("word", Arc::new(words))];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    }

    fn chunks(reader: &mut PartReader, most_rows: usize) -> Vec<RecordBatch> {
        std::iter::from_fn(|| reader.next_chunk(most_rows).unwrap()).collect()
    }

    fn all_numbers(chunks: &[RecordBatch]) -> Vec<(i64, String)> {
        let rows = |chunk: &RecordBatch| {
            let numbers = chunk.column(0).as_primitive::<Int64Type>().values().to_vec();
            let words = chunk.column(1).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
            let words: Vec<String> = words.into_iter().map(|word| word.unwrap().to_string()).collect();
            numbers.into_iter().zip(words)
        };
        chunks.iter().flat_map(rows).collect()
    }

    #[test]
    fn what_was_put_is_read_part_by_part() {
        let place = Place::of(ALL);
        for count in [0i64, 1, 9, 10, 11, 20, 30, 37] {
            let batches: Vec<_> = (0..count).step_by(7).map(|from| numbers(from, (count - from).min(7))).collect();
            let put = place.put(&batches).unwrap();
            let expected = (count as u64).div_ceil(10).max(1);
            assert_eq!((put.rows, u64::from(put.parts)), (count as u64, expected));
            let spine = place.spines.get(&put.id.to_string()).unwrap();
            let mut all = Vec::new();
            for part in 0..spine.parts {
                let chunks = chunks(&mut spine.part(part).unwrap(), 4);
                let sizes: Vec<usize> = chunks.iter().map(RecordBatch::num_rows).collect();
                let rows = (count as usize - 10 * part as usize).min(10);
                let expected: Vec<usize> = (0..rows).step_by(4).map(|from| (rows - from).min(4)).collect();
                assert_eq!(sizes, expected, "however it was put");
                all.extend(chunks);
            }
            let expected: Vec<_> = (0..count).map(|number| (number, format!("w{}", number % 3))).collect();
            assert_eq!(all_numbers(&all), expected);
            let error = spine.part(spine.parts).err().unwrap();
            assert_eq!((error.kind(), error.field_name()), (ErrorKind::InvalidArgument, Some("part")), "{error}");
        }
    }

    #[test]
    fn nothing_is_left_of_an_upload_that_breaks() {
        let place = Place::of(ALL);
        let mut incoming = place.spines.clone().begin(numbers(0, 0).schema()).unwrap();
        incoming.write(&numbers(0, 25)).unwrap();
        assert_eq!(place.entries(), 1);
        let id = incoming.id.to_string();
        assert_eq!(place.spines.get(&id).err().unwrap().kind(), ErrorKind::NotFound, "before it is whole");
        drop(incoming);
        assert_eq!((place.entries(), place.spines.room.taken()), (0, 0));
    }

    #[test]
    fn one_that_does_not_fit_is_refused_and_leaves_nothing() {
        let place = Place::of(Bounds { bytes: 3000, ..ALL });
        let first = place.put(&[numbers(0, 10)]).unwrap();
        let taken = place.spines.room.taken();
        assert!(taken > 80, "{taken}");
        let error = place.put(&[numbers(0, 5), numbers(5, 500)]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        assert_eq!((place.entries(), place.spines.room.taken()), (1, taken));
        place.spines.remove(&first.id.to_string()).unwrap();
        drop(first);
        place.put(&[numbers(0, 10)]).unwrap();
    }

    #[test]
    fn it_goes_when_it_is_dropped_or_expires_and_readers_read_on() {
        let place = Place::of(ALL);
        let hour = 3_600_000_000;
        let id = |put: Arc<Spine>| put.id.to_string();
        let (dropped, expired, renewed) = {
            let put = |from| id(place.put(&[numbers(from, 10)]).unwrap());
            (put(0), put(10), put(20))
        };
        let mut reader = place.spines.get(&dropped).unwrap().part(0).unwrap();
        place.spines.remove(&dropped).unwrap();
        assert_eq!(place.entries(), 2);
        place.clock.0.store(hour - 1, Ordering::Relaxed);
        assert_eq!(place.spines.renew(&renewed).unwrap(), 2 * hour - 1);
        place.spines.get(&expired).unwrap();
        place.clock.0.store(hour, Ordering::Relaxed);
        place.spines.remove_expired();
        assert_eq!(place.entries(), 1);
        for gone in [&dropped, &expired] {
            let spines = &place.spines;
            for told in [spines.get(gone).map(|_| ()), spines.renew(gone).map(|_| ()), spines.remove(gone)] {
                let error = told.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert!(error.message().contains(&format!("no spine {gone} here")), "{error}");
            }
        }
        assert_eq!(chunks(&mut reader, 10)[0].num_rows(), 10);
        assert_ne!(place.spines.room.taken(), 0);
        place.clock.0.store(2 * hour - 1, Ordering::Relaxed);
        assert_eq!(place.spines.get(&renewed).err().unwrap().kind(), ErrorKind::NotFound, "nobody has swept yet");
        assert_eq!(place.entries(), 0);
        drop(reader);
        assert_eq!(place.spines.room.taken(), 0);
        for noise in ["", "..", "../..", "new"] {
            assert_eq!(place.spines.get(noise).err().unwrap().kind(), ErrorKind::InvalidArgument, "{noise}");
        }
    }

    #[test]
    fn what_another_process_has_left_is_removed_and_nobody_else_looks_in() {
        let place = Place::of(ALL);
        let put = place.put(&[numbers(0, 10)]).unwrap();
        let root = place.directory.path().join("spines");
        let mode = std::fs::metadata(&root).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let again = Spines::open_within(&root, place.clock.clone(), ALL, 10).unwrap();
        assert_eq!(place.entries(), 0);
        assert_eq!(again.get(&put.id.to_string()).err().unwrap().kind(), ErrorKind::NotFound);
        assert_eq!(put.part(0).err().unwrap().kind(), ErrorKind::NotFound, "whose files are gone");
    }
}
