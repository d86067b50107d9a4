//! [`PythonExtractors`]: loads the modules of deployments and hands calls to the pool.

use crate::glue::{describe_error, exception, glue};
use crate::guest;
use crate::native::{self, Native, Rest};
use crate::pace::Pace;
use crate::pool::{Job, Pool};
use crate::watchdog;
use futures::future::{BoxFuture, ready};
use parking_lot::RwLock;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use thyme_core::definition::ModuleDef;
use thyme_core::error::{Error, Result};
use thyme_query::{ExtractedRows, ExtractorCall, ExtractorRuntime, ExtractorSpec, LoadReport};
use tokio::sync::oneshot;

/// A function that takes (ts, inputs).
pub(crate) struct Function(pub Py<PyAny>);

/// An extractor of a deployment, or why it cannot run.
pub(crate) struct Loaded {
    pub spec: ExtractorSpec,
    pub function: std::result::Result<Function, Arc<str>>,
    /// Where it does without Python.
    native: Option<Native>,
    pub pace: Pace,
}

struct Commit {
    /// The Python object that holds its modules; none where the functions were given.
    modules: Option<Py<PyAny>>,
    extractors: HashMap<(Arc<str>, Arc<str>), Arc<Loaded>>,
}

/// The pool of this process: there is one interpreter. Never torn down, because a thread that waits inside an interpreter that
/// is going away cannot end cleanly.
static POOL: OnceLock<Result<Arc<Pool>>> = OnceLock::new();

/// Ends the calls of this process's extractors, and takes no more: for the moment before the interpreter goes away.
pub fn close_extractors(py: Python<'_>) {
    if let Some(Ok(pool)) = POOL.get() {
        py.detach(|| pool.close());
    }
}

/// Runs extractors in this process's Python.
pub struct PythonExtractors {
    pool: Arc<Pool>,
    commits: RwLock<HashMap<String, Commit>>,
}

static COMMIT_NUMBER: AtomicU64 = AtomicU64::new(0);

impl PythonExtractors {
    /// With this many worker threads, and as many threads of a runtime in calls of their own (the first caller in a process
    /// decides). More do not raise throughput, but one that waits should not keep others waiting.
    pub fn new(workers: usize) -> Result<PythonExtractors> {
        let pool = POOL.get_or_init(|| start_pool(workers.max(1))).clone()?;
        Ok(PythonExtractors { pool, commits: RwLock::new(HashMap::new()) })
    }

    /// Takes live functions, by `Featureset.extractor`, in place of modules: each takes (ts, inputs). For MockContext.
    pub fn load_functions(
        &self,
        deployment: &str,
        extractors: &[ExtractorSpec],
        functions: &HashMap<String, Py<PyAny>>,
    ) -> LoadReport {
        let mut report = LoadReport::default();
        let loaded = extractors.iter().map(|spec| {
            let name = format!("{}.{}", spec.featureset, spec.name);
            let found = functions.get(&name).map(|function| Python::attach(|py| Function(function.clone_ref(py))));
            let function = found.ok_or_else(|| {
                report.errors.push(Error::definition(format!("no function is given for extractor {name}")));
                Arc::from("its function was not given")
            });
            Python::attach(|py| keyed(py, spec, function, &mut report))
        });
        let extractors = loaded.collect();
        self.put(deployment, Commit { modules: None, extractors });
        report
    }

    /// Whether a thread is stuck in native code that an extractor called. The interpreter must not be ended then: the thread
    /// would come back to one that is half gone, and take the process down.
    pub fn has_stuck_thread(&self) -> bool {
        self.pool.lost.load(Ordering::Acquire) > 0
    }

    fn put(&self, deployment: &str, commit: Commit) {
        let replaced = self.commits.write().insert(deployment.to_string(), commit);
        forget(replaced);
    }
}

fn keyed(
    py: Python<'_>,
    spec: &ExtractorSpec,
    function: std::result::Result<Function, Arc<str>>,
    report: &mut LoadReport,
) -> ((Arc<str>, Arc<str>), Arc<Loaded>) {
    let key = (spec.featureset.clone(), spec.name.clone());
    let function_of = function.as_ref().ok();
    let native = function_of.and_then(|function| native::compile(py, function, spec, &mut report.warnings));
    (key, Arc::new(Loaded { spec: spec.clone(), function, native, pace: Pace::default() }))
}

fn start_pool(workers: usize) -> Result<Arc<Pool>> {
    let pool = Pool::new(workers);
    let start = || {
        for _ in 0..workers {
            pool.start_worker()?;
        }
        watchdog::start(&pool)
    };
    start().map_err(|error| Error::internal(format!("the extractor workers cannot start: {error}")))?;
    Ok(pool)
}

/// Takes a commit's modules out of the interpreter.
fn forget(commit: Option<Commit>) {
    let Some(commit) = commit else { return };
    Python::attach(|py| {
        if let Some(modules) = &commit.modules
            && let Err(error) = modules.bind(py).call_method0("forget")
        {
            tracing::warn!(%error, "the modules of a commit could not be forgotten");
        }
        drop(commit);
    });
}

impl ExtractorRuntime for PythonExtractors {
    /// Runs the modules that hold extractors, each once: this may take as long as their imports take.
    fn load(&self, deployment: &str, modules: &[ModuleDef], extractors: &[ExtractorSpec]) -> LoadReport {
        let mut report = LoadReport::default();
        let commit = Python::attach(|py| {
            load_commit(py, modules, extractors, &mut report).unwrap_or_else(|error| {
                report.errors.push(Error::internal(format!("loading modules failed: {}", describe_error(py, &error))));
                Commit { modules: None, extractors: HashMap::new() }
            })
        });
        self.put(deployment, commit);
        report
    }

    fn unload(&self, deployment: &str) {
        let removed = self.commits.write().remove(deployment);
        forget(removed);
    }

    fn is_native(&self, deployment: &str, featureset: &str, extractor: &str) -> bool {
        let key = (Arc::from(featureset), Arc::from(extractor));
        self.commits
            .read()
            .get(deployment)
            .and_then(|commit| commit.extractors.get(&key))
            .is_some_and(|loaded| loaded.native.is_some())
    }

    /// What its native form is sure of is computed at once, on this thread.
    fn call(&self, call: ExtractorCall) -> BoxFuture<'static, ExtractedRows> {
        let key = (call.featureset.clone(), call.extractor.clone());
        let loaded =
            self.commits.read().get(call.deployment.as_ref()).and_then(|commit| commit.extractors.get(&key).cloned());
        let Some(loaded) = loaded else {
            let reason: Arc<str> = "is not loaded on this node".into();
            return Box::pin(ready(vec![Err(reason); call.rows.len()]));
        };
        let Some(native) = &loaded.native else { return Box::pin(self.in_python(call, loaded)) };
        let (mut rows, rest) = native.run(call);
        let Some(Rest { call, positions }) = rest else { return Box::pin(ready(rows)) };
        let answer = self.in_python(call, loaded);
        Box::pin(async move {
            for (position, row) in positions.into_iter().zip(answer.await) {
                rows[position] = row;
            }
            rows
        })
    }
}

impl PythonExtractors {
    fn in_python(&self, call: ExtractorCall, loaded: Arc<Loaded>) -> impl Future<Output = ExtractedRows> + use<> {
        let row_count = call.rows.len();
        let (reply, answer) = oneshot::channel();
        guest::submit(&self.pool, Job { call, loaded, reply });
        async move {
            answer.await.unwrap_or_else(|_| {
                let reason: Arc<str> = "its worker ended".into();
                vec![Err(reason); row_count]
            })
        }
    }
}

fn load_commit(
    py: Python<'_>,
    modules: &[ModuleDef],
    extractors: &[ExtractorSpec],
    report: &mut LoadReport,
) -> PyResult<Commit> {
    let sources: Vec<(&str, &str, &str)> =
        modules.iter().map(|module| (module.name.as_str(), module.path.as_str(), module.source.as_str())).collect();
    let number = COMMIT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let commit = glue(py)?.call_method1("load", (number, sources))?;
    let mut loaded = HashMap::new();
    let mut imported: HashMap<&str, std::result::Result<(), Arc<str>>> = HashMap::new();
    let told = |error: &PyErr, spec: &ExtractorSpec| -> PyResult<Arc<str>> {
        let told: String = glue(py)?.call_method1("load_error", (exception(py, error), &spec.module))?.extract()?;
        Ok(told.into())
    };
    for spec in extractors {
        let at = format!("{}.{}", spec.featureset, spec.name);
        if !imported.contains_key(spec.module.as_str()) {
            let result = match glue(py)?.call_method1("run_module", (&commit, &spec.module)) {
                Ok(_) => Ok(()),
                Err(error) => {
                    let reason = told(&error, spec)?;
                    report.errors.push(Error::definition(reason.as_ref()).field(at.as_str()));
                    Err(reason)
                }
            };
            imported.insert(&spec.module, result);
        }
        let function = match &imported[spec.module.as_str()] {
            Err(reason) => Err(reason.clone()),
            Ok(()) => match glue(py)?.call_method1("function", (&commit, &spec.module, &spec.qualname)) {
                Ok(function) => Ok(Function(function.unbind())),
                Err(error) => {
                    let reason = told(&error, spec)?;
                    report.errors.push(Error::definition(reason.as_ref()).field(at.as_str()));
                    Err(reason)
                }
            },
        };
        let (key, entry) = keyed(py, spec, function, report);
        loaded.insert(key, entry);
    }
    Ok(Commit { modules: Some(commit.unbind()), extractors: loaded })
}
