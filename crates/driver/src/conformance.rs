//! The suite every driver runs.
//!
//! A driver's tests supply a [`Fixture`] and call [`run`]; every broken promise of the port is a
//! panic that says which one. Faults are put in at every single call of the port, one run each:
//! failures, cancellation, a file that cannot be read, and the death of the process (a panic in
//! the source, after which nothing of the driver's own cleaning up may be counted on).

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use provault_domain::Resource;

use crate::injection::{FaultySink, FaultySource, Injection, Trigger};
use crate::memory::{MemorySink, MemorySource};
use crate::{
    CancelFlag, CaptureReport, Driver, DriverError, NodeKind, RestoreOutcome, RestoreRequest, Sink,
    SinkError, Source, SourceError, WorkContext,
};

/// What a caller asks of a restore.
pub type Request = BTreeMap<String, String>;

/// Resources of a driver's kind and the means to look at them without the driver.
pub trait Fixture {
    /// A new, populated resource.
    fn resource(&self) -> Resource;
    /// Adds to the resource, changes and removes some of it, and leaves some as it is.
    fn mutate(&self, resource: &Resource);
    /// Everything about the resource that a capture could change by accident.
    fn fingerprint(&self, resource: &Resource) -> String;
    /// A restore of the whole resource to a place where nothing is, a new one for every call.
    fn request(&self, resource: &Resource) -> Request;
    /// Puts something in the way of a restore.
    fn occupy(&self, request: &Request);
    /// Everything that exists where the restore goes and beside it, with its content.
    fn surroundings(&self, request: &Request) -> Vec<String>;
    /// How the restored copy differs from the resource; empty when it does not.
    fn differences(&self, resource: &Resource, request: &Request) -> Vec<String>;
    /// Removes the restored copy.
    fn dispose(&self, request: &Request);
}

/// Checks every invariant of the port.
pub fn run(driver: &dyn Driver, fixture: &dyn Fixture) {
    settings_are_checked(driver, fixture);
    captures_only_read(driver, fixture);
    everything_comes_back(driver, fixture);
    increments_come_back(driver, fixture);
    nothing_is_written_over(driver, fixture);
    failing_captures_end(driver, fixture);
    unreadable_files_are_listed(driver, fixture);
    unreadable_volumes_end_the_capture(driver, fixture);
    failing_restores_leave_nothing(driver, fixture);
    cancelled_restores_leave_nothing(driver, fixture);
    dead_restores_are_discarded(driver, fixture);
    dead_restores_are_taken_up(driver, fixture);
    damage_is_the_fault_of_the_data(driver, fixture);
}

/// Unknown settings and restore keys are refused by name; what the driver hands out it takes.
pub fn settings_are_checked(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    assert_eq!(driver.kind(), resource.kind, "the fixture's resource is of another kind");
    let full = match driver.check_config(&resource.config) {
        Ok(full) => full,
        Err(error) => panic!("the fixture's settings are refused: {error}"),
    };
    assert_eq!(driver.check_config(&full).as_ref(), Ok(&full), "full settings are not stable");
    assert_eq!(driver.identity(&full), driver.identity(&resource.config), "identity changes");
    let mut odd = full;
    odd["noSuchSetting"] = true.into();
    match driver.check_config(&odd) {
        Ok(_) => panic!("an unknown setting is accepted and forgotten"),
        Err(error) => assert!(error.to_string().contains("noSuchSetting"), "not named: {error}"),
    }

    let mut request = driver.restore_metadata(&resource);
    assert_eq!(driver.check_restore(&request), Ok(()), "the driver refuses its own metadata");
    request.insert("noSuchKey".to_owned(), "x".to_owned());
    match driver.check_restore(&request) {
        Ok(()) => panic!("an unknown restore key is accepted and forgotten"),
        Err(error) => assert_eq!(error.member, "noSuchKey", "not named: {error}"),
    }
    let request = fixture.request(&resource);
    assert_eq!(driver.check_restore(&request), Ok(()), "the fixture's request is refused");
}

/// Nothing of the source changes, and the report agrees with what was handed over.
pub fn captures_only_read(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let before = fixture.fingerprint(&resource);
    let (tree, report) = capture(driver, &resource);
    assert_eq!(before, fixture.fingerprint(&resource), "the capture changed the source");
    assert!(report.skipped.is_empty(), "skipped: {:?}", report.skipped);
    let files = || tree.list().iter().filter(|e| e.kind == NodeKind::File);
    let count = files().count() as u64;
    // Several names of one file share its bytes.
    let inodes: HashMap<_, _> =
        files().map(|e| ((e.metadata.device, e.metadata.inode), e.metadata.size)).collect();
    let volumes = tree.volumes();
    let bytes = inodes.values().sum::<u64>() + volumes.iter().map(|(_, size)| size).sum::<u64>();
    let count = count + volumes.len() as u64;
    assert!(count > 0, "the fixture holds neither files nor volumes");
    assert_eq!((report.files, report.bytes), (count, bytes), "the report miscounts");
}

/// A restored copy equals the source.
pub fn everything_comes_back(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (tree, report) = capture(driver, &resource);
    let request = fixture.request(&resource);
    let outcome = restored(driver, &request, &tree);
    assert_same(fixture, &resource, &request);
    assert_eq!((outcome.files, outcome.bytes), (report.files, report.bytes), "miscounted");
    match &outcome.created {
        None => panic!("a whole restore names no created resource"),
        Some(created) => {
            let named = provault_domain::resource::validate_name("Name", &created.name);
            assert_eq!(named, Ok(()), "the created resource's name is no name");
            let config = driver.check_config(&created.config);
            assert!(config.is_ok(), "the created resource's settings are refused: {config:?}");
        }
    }
    fixture.dispose(&request);
}

/// A capture upon an older one skips what is the same, and comes back as the source is now.
pub fn increments_come_back(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (parent, _) = capture(driver, &resource);
    fixture.mutate(&resource);
    let mut sink = MemorySink::with_parent(parent);
    let result = capture_into(driver, &resource, &mut sink, &CancelFlag::new());
    assert!(result.is_ok(), "the increment failed: {result:?}");
    assert!(sink.unchanged() > 0, "nothing was recognised as unchanged");
    let request = fixture.request(&resource);
    restored(driver, &request, &sink.into_source());
    assert_same(fixture, &resource, &request);
    fixture.dispose(&request);
}

/// A restore refuses a target that exists and leaves it as it was.
pub fn nothing_is_written_over(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (tree, _) = capture(driver, &resource);
    let request = fixture.request(&resource);
    fixture.occupy(&request);
    let before = fixture.surroundings(&request);
    match restore(driver, &request, &tree, &CancelFlag::new()) {
        Err(DriverError::TargetExists { .. }) => {}
        other => panic!("an occupied target must be TargetExists, not {other:?}"),
    }
    assert_eq!(before, fixture.surroundings(&request), "the occupied target changed");

    // To restore twice to one place is to be refused the second time.
    let request = fixture.request(&resource);
    restored(driver, &request, &tree);
    let before = fixture.surroundings(&request);
    let again = restore(driver, &request, &tree, &CancelFlag::new());
    assert!(again.is_err(), "a second restore wrote over the first");
    assert_eq!(before, fixture.surroundings(&request), "the first restore was changed");
    fixture.dispose(&request);
}

/// A vault that refuses at any call ends the capture; so does the flag.
pub fn failing_captures_end(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let before = fixture.fingerprint(&resource);
    for injection in [Injection::Fail, Injection::Cancel] {
        for call in 1.. {
            let trigger = Trigger::new(call, injection);
            let mut inner = MemorySink::new();
            let mut sink = FaultySink { inner: &mut inner, trigger: &trigger };
            let result = capture_into(driver, &resource, &mut sink, &trigger.cancel);
            if !trigger.has_fired() {
                assert!(result.is_ok(), "a capture without fault failed: {result:?}");
                break;
            }
            match (injection, result) {
                (Injection::Cancel, Ok(_)) if inner.is_complete() => {}
                (Injection::Cancel, Err(error)) if error.is_cancelled() => {}
                (Injection::Fail, Err(DriverError::Sink(SinkError::Store(_)))) => {}
                (_, other) => panic!("{injection:?} at call {call} of the sink gave {other:?}"),
            }
            let further = trigger.calls() - call;
            assert!(further <= 4, "{further} calls came after {injection:?} at {call}");
        }
    }
    assert_eq!(before, fixture.fingerprint(&resource), "a failed capture changed the source");
}

/// A file that cannot be read is listed, and all others are in the capture.
pub fn unreadable_files_are_listed(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (whole, _) = capture(driver, &resource);
    let files = whole.list().iter().filter(|e| e.kind == NodeKind::File).count();
    for nth in 1..=files as u64 {
        let trigger = Trigger::new(nth, Injection::Unreadable);
        let mut inner = MemorySink::new();
        let mut sink = FaultySink { inner: &mut inner, trigger: &trigger };
        let report = match capture_into(driver, &resource, &mut sink, &trigger.cancel) {
            Ok(report) => report,
            Err(error) => panic!("one unreadable file ended the capture: {error}"),
        };
        assert_eq!(report.skipped.len(), 1, "not listed once: {:?}", report.skipped);
        let tree = inner.into_source();
        let missing: Vec<_> = whole
            .list()
            .iter()
            .filter(|e| tree.get(&e.path).is_none())
            .map(|e| crate::entry::printable(&e.path))
            .collect();
        assert_eq!(missing, [report.skipped[0].path.clone()], "another one is missing");
    }
}

/// A volume of which a block cannot be read is no volume: the capture fails, as the source's fault.
pub fn unreadable_volumes_end_the_capture(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (whole, _) = capture(driver, &resource);
    for nth in 1..=whole.volumes().len() as u64 {
        let trigger = Trigger::new(nth, Injection::Unreadable);
        let mut inner = MemorySink::new();
        let mut sink = FaultySink { inner: &mut inner, trigger: &trigger };
        match capture_into(driver, &resource, &mut sink, &trigger.cancel) {
            Err(DriverError::Io { .. }) => {}
            other => panic!("an unreadable volume gave {other:?}"),
        }
    }
}

/// A vault that fails at any call of a restore leaves the target absent.
pub fn failing_restores_leave_nothing(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (tree, _) = capture(driver, &resource);
    for call in 1.. {
        let request = fixture.request(&resource);
        let before = fixture.surroundings(&request);
        let trigger = Trigger::new(call, Injection::Fail);
        let source = FaultySource { inner: &tree, trigger: &trigger };
        let result = restore(driver, &request, &source, &trigger.cancel);
        if !trigger.has_fired() {
            assert!(result.is_ok(), "a restore without fault failed: {result:?}");
            fixture.dispose(&request);
            break;
        }
        assert!(
            matches!(result, Err(DriverError::Source(SourceError::Unavailable(_)))),
            "a failure at call {call} gave {result:?}"
        );
        assert_eq!(before, fixture.surroundings(&request), "left over after call {call}");
    }
}

/// The flag at any call of a restore ends it and leaves the target absent, or comes too late.
pub fn cancelled_restores_leave_nothing(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (tree, _) = capture(driver, &resource);
    let mut ended = 0;
    for call in 1.. {
        let request = fixture.request(&resource);
        let before = fixture.surroundings(&request);
        let trigger = Trigger::new(call, Injection::Cancel);
        let source = FaultySource { inner: &tree, trigger: &trigger };
        let result = restore(driver, &request, &source, &trigger.cancel);
        if !trigger.has_fired() {
            fixture.dispose(&request);
            break;
        }
        match result {
            Ok(_) => {
                assert_same(fixture, &resource, &request);
                fixture.dispose(&request);
            }
            Err(error) => {
                assert!(error.is_cancelled(), "cancelled at call {call}, but: {error}");
                assert_eq!(before, fixture.surroundings(&request), "left over after call {call}");
                ended += 1;
            }
        }
        let further = trigger.calls() - call;
        assert!(further <= 4, "{further} calls came after the flag at {call}");
    }
    assert!(ended > 0, "no restore was ever cancelled");
}

/// What a process that died in a restore left is removed under its job's id, and only that.
pub fn dead_restores_are_discarded(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (tree, _) = capture(driver, &resource);
    let mut found_partial = false;
    for call in 1.. {
        let request = fixture.request(&resource);
        let before = fixture.surroundings(&request);
        let trigger = Trigger::new(call, Injection::Die);
        let source = FaultySource { inner: &tree, trigger: &trigger };
        let job = next_job();
        let died = catch_unwind(AssertUnwindSafe(|| {
            restore_as(driver, &job, &request, &source, &trigger.cancel)
        }));
        if died.is_ok() {
            assert!(!trigger.has_fired(), "a driver must not swallow a panic of its source");
            fixture.dispose(&request);
            break;
        }
        let partial = fixture.surroundings(&request);
        found_partial |= partial != before;
        discard(driver, &next_job(), &request);
        assert_eq!(partial, fixture.surroundings(&request), "another job's leftovers were taken");
        discard(driver, &job, &request);
        assert_eq!(before, fixture.surroundings(&request), "left over after death at {call}");
        discard(driver, &job, &request);
        assert_eq!(before, fixture.surroundings(&request), "discarding twice changed something");
    }
    assert!(found_partial, "no death left anything: the test proves nothing");

    // A finished restore is not partial.
    let request = fixture.request(&resource);
    let job = next_job();
    let result = restore_as(driver, &job, &request, &tree, &CancelFlag::new());
    assert!(result.is_ok(), "the restore failed: {result:?}");
    discard(driver, &job, &request);
    assert_same(fixture, &resource, &request);
    fixture.dispose(&request);
}

/// A restore that died, or was stopped to be taken up, is completed by the same job; so is one that
/// had been completed when it died. A preview writes nothing, whatever was left.
pub fn dead_restores_are_taken_up(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (tree, report) = capture(driver, &resource);
    let again = |job: &str, request: &Request, when: &str| {
        let before = fixture.surroundings(request);
        let context = WorkContext { cancel: &CancelFlag::new(), progress: &|_, _| {} };
        let asked = RestoreRequest::new(job, request);
        let _ = driver.preview(&asked, &tree, &context);
        assert_eq!(before, fixture.surroundings(request), "a preview wrote, {when}");
        match driver.resume(&asked, &tree, &context) {
            Ok(outcome) => {
                assert_same(fixture, &resource, request);
                let counted = (outcome.files, outcome.bytes);
                assert_eq!(counted, (report.files, report.bytes), "miscounted, {when}");
                assert!(outcome.created.is_some(), "names no created resource, {when}");
            }
            Err(error) => panic!("not taken up {when}: {error}"),
        }
        fixture.dispose(request);
    };
    for injection in [Injection::Die, Injection::Suspend] {
        for call in 1.. {
            let request = fixture.request(&resource);
            let trigger = Trigger::new(call, injection);
            let source = FaultySource { inner: &tree, trigger: &trigger };
            let job = next_job();
            let ended = catch_unwind(AssertUnwindSafe(|| {
                restore_as(driver, &job, &request, &source, &trigger.cancel)
            }));
            if !trigger.has_fired() {
                fixture.dispose(&request);
                break;
            }
            match ended {
                // The flag came too late.
                Ok(Ok(_)) => fixture.dispose(&request),
                Ok(Err(error)) if !error.is_cancelled() => panic!("suspended, but: {error}"),
                _ => again(&job, &request, &format!("after {injection:?} at call {call}")),
            }
        }
    }
    let request = fixture.request(&resource);
    let job = next_job();
    let done = restore_as(driver, &job, &request, &tree, &CancelFlag::new());
    assert!(done.is_ok(), "the restore failed: {done:?}");
    again(&job, &request, "when it had been completed");
}

/// Damaged data ends the restore, leaves nothing, and is blamed on the data.
pub fn damage_is_the_fault_of_the_data(driver: &dyn Driver, fixture: &dyn Fixture) {
    let resource = fixture.resource();
    let (mut tree, _) = capture(driver, &resource);
    let victim = tree.list().iter().find(|e| e.kind == NodeKind::File && e.metadata.size > 0);
    let victim = victim.map(|e| e.path.clone());
    let volume = tree.volumes().first().map(|(name, _)| name.to_vec());
    match (victim, volume) {
        (Some(victim), _) => tree.damage(&victim),
        (None, Some(volume)) => tree.damage_volume(&volume),
        (None, None) => panic!("the fixture holds no file with content"),
    }
    let request = fixture.request(&resource);
    let before = fixture.surroundings(&request);
    match restore(driver, &request, &tree, &CancelFlag::new()) {
        Ok(_) => panic!("damaged data was restored"),
        Err(error) => {
            assert_eq!(error.fault(), provault_domain::verdict::Fault::Data, "blamed wrongly");
        }
    }
    assert_eq!(before, fixture.surroundings(&request), "damaged data was left behind");
}

/// Captures a resource into memory; anything but success is a panic.
pub fn capture(driver: &dyn Driver, resource: &Resource) -> (MemorySource, CaptureReport) {
    let mut sink = MemorySink::new();
    match capture_into(driver, resource, &mut sink, &CancelFlag::new()) {
        Ok(report) => {
            assert!(sink.is_complete(), "a directory was not ended");
            (sink.into_source(), report)
        }
        Err(error) => panic!("the capture failed: {error}"),
    }
}

/// Captures a resource into a sink.
pub fn capture_into(
    driver: &dyn Driver,
    resource: &Resource,
    sink: &mut dyn Sink,
    cancel: &CancelFlag,
) -> Result<CaptureReport, DriverError> {
    let context = WorkContext { cancel, progress: &|_, _| {} };
    driver.capture(resource, cancel)?.read_into(sink, &context)
}

/// Restores under a new job id.
pub fn restore(
    driver: &dyn Driver,
    request: &Request,
    source: &dyn Source,
    cancel: &CancelFlag,
) -> Result<RestoreOutcome, DriverError> {
    restore_as(driver, &next_job(), request, source, cancel)
}

/// Restores under a given job id.
pub fn restore_as(
    driver: &dyn Driver,
    job_id: &str,
    metadata: &Request,
    source: &dyn Source,
    cancel: &CancelFlag,
) -> Result<RestoreOutcome, DriverError> {
    let context = WorkContext { cancel, progress: &|_, _| {} };
    driver.restore(&RestoreRequest::new(job_id, metadata), source, &context)
}

/// A job id that no other call returned.
pub fn next_job() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:08x}-0000-4000-8000-000000000000", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn restored(driver: &dyn Driver, request: &Request, source: &dyn Source) -> RestoreOutcome {
    match restore(driver, request, source, &CancelFlag::new()) {
        Ok(outcome) => outcome,
        Err(error) => panic!("the restore failed: {error}"),
    }
}

fn discard(driver: &dyn Driver, job_id: &str, metadata: &Request) {
    let result = driver.discard_partial(&RestoreRequest::new(job_id, metadata));
    assert!(result.is_ok(), "discarding failed: {result:?}");
}

fn assert_same(fixture: &dyn Fixture, resource: &Resource, request: &Request) {
    let differences = fixture.differences(resource, request);
    assert!(differences.is_empty(), "the copy differs:\n{}", differences.join("\n"));
}
