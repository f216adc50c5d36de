//! The one module with `unsafe`: some functions of libc, as a simulated thread sees them.
//!
//! QUIC reads `std::time::Instant`, TLS draws from the system and iroh looks at the host's
//! interfaces; none of it can be handed in. So this program defines these symbols itself. On a
//! thread that simulates they follow the simulation: the clock is that of the simulated host that
//! runs, entropy comes from the seed, there are no interfaces, and a thread that something starts
//! behind the simulator's back ends the program. On every other thread they pass on what was
//! asked, untouched. Linux with glibc.
//!
//! Invariant: nothing that a simulated thread learns here differs between two runs of one seed.

#![allow(unsafe_code, reason = "symbols of libc are defined and called here, and nowhere else")]

use std::{
    cell::Cell,
    ffi::CStr,
    mem, ptr, slice,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use libc::{c_char, c_int, c_long, c_uint, c_void, clockid_t, timespec};

use crate::seed::mix;

/// While it lives, this thread simulates.
pub(super) struct Simulated {
    _on_this_thread: *const (),
}

/// While it lives, this thread may start others: see [`super::quiesce`].
pub(super) struct MayStartThreads(());

impl Simulated {
    /// From now on this thread simulates, with entropy from the seed. The thread must be a fresh
    /// one: what others seeded before, such as the keys of hash maps, stays as it is.
    pub(super) fn new(seed: u64) -> Self {
        assert!(!is_active(), "a thread simulates once at a time");
        DRAWN.set(seed);
        SHOWN_NS.set(START_NS);
        SIMULATIONS.fetch_add(1, Ordering::Relaxed);
        ACTIVE.set(true);
        // Read with the shim in place, so that it stands for the start.
        #[expect(clippy::disallowed_methods, reason = "it is the simulated clock")]
        ORIGIN.set(Some(Instant::now()));
        Self { _on_this_thread: ptr::null() }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        ACTIVE.set(false);
        ORIGIN.set(None);
        SIMULATIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MayStartThreads {
    pub(super) fn new() -> Self {
        MAY_START_THREADS.set(true);
        Self(())
    }
}

impl Drop for MayStartThreads {
    fn drop(&mut self) {
        MAY_START_THREADS.set(false);
    }
}

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    /// What stands for [`START_NS`].
    static ORIGIN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// What the clock showed last: it is asked while it is being asked, and between hosts.
    static SHOWN_NS: Cell<u64> = const { Cell::new(0) };
    static READING: Cell<bool> = const { Cell::new(false) };
    static DRAWN: Cell<u64> = const { Cell::new(0) };
    static MAY_START_THREADS: Cell<bool> = const { Cell::new(false) };
}

/// In the whole process: what looks at interfaces does so from a thread of its own.
static SIMULATIONS: AtomicUsize = AtomicUsize::new(0);

/// When the simulation of this thread began.
pub(super) fn began() -> Option<Instant> {
    ORIGIN.get()
}

/// How long it has been going on, by the clock of the host that runs; between hosts, by the last
/// one's.
pub(super) fn elapsed() -> Duration {
    Duration::from_nanos(monotonic_ns().saturating_sub(START_NS))
}

/// Between hosts: it has been going on for so long.
pub(super) fn show(elapsed: Duration) {
    let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
    SHOWN_NS.set(START_NS.saturating_add(elapsed_ns));
}

/// Between hosts: the runtime that turmoil makes next will show that it has been going on for so
/// long.
pub(super) fn show_next(elapsed: Duration) {
    show(elapsed);
    SHOWN_NS.set(SHOWN_NS.get() - RUNTIME_AHEAD_NS);
}

pub(super) fn is_active() -> bool {
    // Threads that end ask for the time as well, when their own variables are gone.
    ACTIVE.try_with(Cell::get).unwrap_or(false)
}

/// The paused clock of the simulated host that runs; between hosts, what the last one showed.
fn monotonic_ns() -> u64 {
    if !READING.replace(true) {
        if let Some(origin) = ORIGIN.get() {
            // Outside of a runtime it asks this function in turn.
            #[expect(clippy::disallowed_methods, reason = "this is the simulated clock itself")]
            let since = tokio::time::Instant::now().into_std().saturating_duration_since(origin);
            let since_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            SHOWN_NS.set(START_NS.saturating_add(since_ns));
        }
        READING.set(false);
    }
    SHOWN_NS.get()
}

fn fill(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let drawn = mix(DRAWN.get(), 1);
        DRAWN.set(drawn);
        chunk.copy_from_slice(&drawn.to_le_bytes()[..chunk.len()]);
    }
}

fn refuse(error: c_int) -> c_int {
    // SAFETY: it is this thread's own error number.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// The symbol that the next library defines: libc's own. It must have the given type.
macro_rules! next {
    ($name:literal as $type:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        let mut found = FOUND.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: the name ends with a zero byte.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, $name.as_ptr()) };
            assert!(!found.is_null(), "libc defines it");
            FOUND.store(found, Ordering::Relaxed);
        }
        // SAFETY: libc's function of that name has this type, by its manual page.
        unsafe { mem::transmute::<*mut c_void, $type>(found) }
    }};
}

/// As in `clock_gettime(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let shown_ns = match clock {
        _ if !is_active() => None,
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME => Some(monotonic_ns()),
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
            Some(monotonic_ns() - START_NS + WALL_START_NS)
        }
        _ => None,
    };
    let Some(shown_ns) = shown_ns else {
        let real =
            next!(c"clock_gettime" as unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int);
        // SAFETY: passed on as it came.
        return unsafe { real(clock, time) };
    };
    let seconds = c_long::try_from(shown_ns / 1_000_000_000).unwrap_or(c_long::MAX);
    let nanos = c_long::try_from(shown_ns % 1_000_000_000).unwrap_or(0);
    // SAFETY: the caller brings room for a time.
    unsafe { time.write(timespec { tv_sec: seconds, tv_nsec: nanos }) };
    0
}

/// As in `getrandom(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if !is_active() {
        let real = next!(c"getrandom" as unsafe extern "C" fn(*mut c_void, usize, c_uint) -> isize);
        // SAFETY: passed on as it came.
        return unsafe { real(buffer, length, flags) };
    }
    if length > 0 && !buffer.is_null() {
        // SAFETY: the caller brings a buffer of that length.
        fill(unsafe { slice::from_raw_parts_mut(buffer.cast(), length) });
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// As in `getentropy(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut c_void, length: usize) -> c_int {
    // SAFETY: passed on as it came.
    let got = unsafe { getrandom(buffer, length, 0) };
    if usize::try_from(got) == Ok(length) { 0 } else { -1 }
}

/// As in `syscall(2)`: the way on which the cipher library asks for entropy.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == libc::SYS_getrandom && is_active() {
        let length = usize::try_from(b).unwrap_or(0);
        // SAFETY: these are the arguments of `getrandom`, in its order.
        let got = unsafe { getrandom(a as *mut c_void, length, 0) };
        return c_long::try_from(got).unwrap_or(c_long::MAX);
    }
    type Real =
        unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;
    let real = next!(c"syscall" as Real);
    // SAFETY: passed on as it came; what the call does not use is not looked at.
    unsafe { real(number, a, b, c, d, e, f) }
}

/// As in `socket(2)`; a simulated thread hears nothing of the host's routes.
#[unsafe(no_mangle)]
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if domain == libc::AF_NETLINK && is_active() {
        return refuse(libc::EAFNOSUPPORT);
    }
    let real = next!(c"socket" as unsafe extern "C" fn(c_int, c_int, c_int) -> c_int);
    // SAFETY: passed on as it came.
    unsafe { real(domain, kind, protocol) }
}

/// As in `getifaddrs(3)`; a simulated thread has no interfaces.
#[unsafe(no_mangle)]
unsafe extern "C" fn getifaddrs(out: *mut *mut libc::ifaddrs) -> c_int {
    if is_active() {
        // SAFETY: the caller brings room for a pointer.
        unsafe { out.write(ptr::null_mut()) };
        return 0;
    }
    let real = next!(c"getifaddrs" as unsafe extern "C" fn(*mut *mut libc::ifaddrs) -> c_int);
    // SAFETY: passed on as it came.
    unsafe { real(out) }
}

/// As in `open(2)`; while anything is simulated there is no table of routes.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: the caller brings a path that ends with a zero byte.
    let is_routes = unsafe { CStr::from_ptr(path) } == ROUTES;
    if is_routes && SIMULATIONS.load(Ordering::Relaxed) > 0 {
        return refuse(libc::ENOENT);
    }
    let real = next!(c"open64" as unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int);
    // SAFETY: passed on as it came; without a flag that asks for it the mode is not looked at.
    unsafe { real(path, flags, mode) }
}

type Start = extern "C" fn(*mut c_void) -> *mut c_void;

/// As in `pthread_create(3)`; what a simulated thread starts would run beside the simulation, and
/// no two runs would be alike.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    if is_active() && !MAY_START_THREADS.get() {
        eprintln!("the simulator ends: something started a thread beside the simulation");
        std::process::abort();
    }
    type Real = unsafe extern "C" fn(
        *mut libc::pthread_t,
        *const libc::pthread_attr_t,
        Start,
        *mut c_void,
    ) -> c_int;
    let real = next!(c"pthread_create" as Real);
    // SAFETY: passed on as it came.
    unsafe { real(thread, attributes, start, argument) }
}

const ROUTES: &CStr = c"/proc/net/route";
/// So long a runtime of turmoil's sleeps before anything runs in it, and shows it.
const RUNTIME_AHEAD_NS: u64 = 1_000_000;
/// Far from zero: what counts back from the start must not underflow.
const START_NS: u64 = 1_000_000 * 1_000_000_000;
/// When the wall clock starts: 2023-11-14, 22:13:20 UTC.
const WALL_START_NS: u64 = 1_700_000_000 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::{collections::hash_map::RandomState, hash::BuildHasher as _, thread, time::Duration};

    use super::*;

    fn simulated<T: Send + 'static>(seed: u64, act: impl FnOnce() -> T + Send + 'static) -> T {
        let run = move || {
            let _simulated = Simulated::new(seed);
            act()
        };
        thread::spawn(run).join().expect("it does not panic")
    }

    fn drawn(seed: u64) -> u64 {
        simulated(seed, || RandomState::new().hash_one(7))
    }

    #[test]
    fn a_simulated_thread_draws_from_its_seed_and_others_do_not() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let other = || thread::spawn(|| RandomState::new().hash_one(7)).join().expect("no panic");
        assert_ne!(other(), other());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is about the clock")]
    fn time_passes_on_a_simulated_thread_only_with_its_host() {
        let passed = simulated(1, || {
            let begun = Instant::now();
            thread::sleep(Duration::from_millis(2));
            let asleep = begun.elapsed();
            let host = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            let in_host = host.block_on(async {
                let begun = Instant::now();
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                begun.elapsed()
            });
            (asleep, in_host)
        });
        assert_eq!(passed, (Duration::ZERO, Duration::from_secs(3_600)));
        let begun = Instant::now();
        thread::sleep(Duration::from_millis(2));
        assert!(begun.elapsed() >= Duration::from_millis(2), "here it goes on as ever");
    }
}
