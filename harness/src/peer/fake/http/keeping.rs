//! Faults of a server that takes something for each session and does not let go of it.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{self, Write},
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::PathBuf,
    process::Child,
    sync::{
        Arc, LazyLock,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{
    super::{
        helper::{self, Lifeline, Tie, Until},
        options::{FakeError, Settings},
    },
    fault::{Equipment, Fault},
};

/// What takes something for the `nth` session, on this connection.
type Take = dyn Fn(u64, &Arc<TcpStream>) -> io::Result<Arc<dyn Equipment>> + Send + Sync;

/// Takes something for each session and keeps it when the session has ended, well or not. The twin
/// lets go of it.
pub(super) struct KeepsPerSession {
    fixed: bool,
    take: Box<Take>,
}

impl KeepsPerSession {
    fn taking<T: Equipment + 'static>(
        fixed: bool,
        take: impl Fn(u64, &Arc<TcpStream>) -> io::Result<T> + Send + Sync + 'static,
    ) -> Box<dyn Fault> {
        let take = Box::new(move |nth, socket: &Arc<TcpStream>| {
            Ok(Arc::new(take(nth, socket)?) as Arc<dyn Equipment>)
        });
        Box::new(Self { fixed, take })
    }

    /// A descriptor.
    pub(super) fn fd(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        // A socket, whose identity no other descriptor ever has.
        Ok(Self::taking(settings.fixed(), |_, _| Ok(OwnedFd::from(UnixDatagram::unbound()?))))
    }

    /// The connection on which the session began. Its other end closes long before.
    pub(super) fn socket(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Self::taking(settings.fixed(), |_, socket| Ok(Arc::clone(socket))))
    }

    /// A thread.
    pub(super) fn thread(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Self::taking(settings.fixed(), |nth, _| SessionThread::start(nth)))
    }

    /// A child that ends with the server.
    pub(super) fn child(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Self::taking(settings.fixed(), |_, _| SessionChild::start()))
    }

    /// A dead child. The twin reaps it before the session begins.
    pub(super) fn zombie(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        let fixed = settings.fixed();
        Ok(Self::taking(fixed, move |_, _| dead_child(fixed)))
    }

    /// A file under TMPDIR.
    pub(super) fn tempfile(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Self::taking(settings.fixed(), |nth, _| SessionFile::create(nth)))
    }

    /// So many KiB of memory.
    pub(super) fn memory(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        const MOST: usize = 64 << 10;
        let wanted = "a number of KiB from 1 to 65536";
        let kib: usize = settings.parsed("kib", wanted)?;
        if !(1..=MOST).contains(&kib) {
            return Err(settings.bad_value("kib", wanted));
        }
        // Every page is written to: what was never touched takes no room.
        Ok(Self::taking(settings.fixed(), move |_, _| Ok(black_box(vec![1_u8; kib << 10]))))
    }
}

impl Fault for KeepsPerSession {
    fn on_start(&self, _listener: &TcpListener) -> io::Result<()> {
        // Before the first session, so that none of them finds more than the last.
        lifeline().map(drop)
    }

    fn begin(&self, nth: u64, socket: &Arc<TcpStream>) -> io::Result<Arc<dyn Equipment>> {
        (self.take)(nth, socket)
    }

    fn end(&self, equipment: Arc<dyn Equipment>) {
        if !self.fixed {
            std::mem::forget(equipment);
        }
    }
}

/// Lets go of what it took when a session is deleted, and never when its client just goes: it has no
/// idle limit. The twin has one.
pub(super) struct ForgetsAbandoned {
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for ForgetsAbandoned {
    fn expires(&self) -> bool {
        self.fixed
    }

    fn begin(&self, _nth: u64, _socket: &Arc<TcpStream>) -> io::Result<Arc<dyn Equipment>> {
        Ok(Arc::new(OwnedFd::from(UnixDatagram::unbound()?)))
    }
}

/// Answers DELETE with 200, and the session goes on.
pub(super) struct KeepsDeleted;

impl Fault for KeepsDeleted {
    fn deletes(&self) -> bool {
        false
    }
}

/// A pipe whose end tells a child that the server has ended, one for all children.
pub(super) fn lifeline() -> io::Result<&'static Lifeline> {
    static LIFELINE: LazyLock<io::Result<Lifeline>> = LazyLock::new(Lifeline::new);
    LIFELINE.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

impl Equipment for OwnedFd {}
impl Equipment for Arc<TcpStream> {}
impl Equipment for Vec<u8> {}

/// Starts a child that ends at once, and reaps it or not.
pub(super) fn dead_child(reaped: bool) -> io::Result<()> {
    let mut child = helper::spawn(Tie::Group, Until::Started)?;
    if reaped {
        child.wait()?;
        return Ok(());
    }
    // Dead, seen to be dead, and left.
    let pid = WaitId::Pid(Pid::from_child(&child));
    let look_only = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::io::retry_on_intr(|| rustix::process::waitid(pid.clone(), look_only))?;
    Ok(())
}

/// A thread that waits until its session ends.
pub(super) struct SessionThread(Option<(Sender<()>, JoinHandle<()>)>);

impl SessionThread {
    pub(super) fn start(nth: u64) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel::<()>();
        // Linux shows the first 15 bytes of a thread's name.
        let thread = thread::Builder::new().name(format!("session-{nth}"));
        let thread = thread.spawn(move || {
            // Nothing is ever sent: it ends with its session.
            let _ = ended.recv_timeout(LIFE);
        })?;
        Ok(Self(Some((alive, thread))))
    }
}

/// No thread stays longer.
const LIFE: Duration = Duration::from_secs(600);

impl Equipment for SessionThread {}

impl Drop for SessionThread {
    fn drop(&mut self) {
        if let Some((alive, thread)) = self.0.take() {
            drop(alive);
            // One that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

/// A child that works for a session.
pub(super) struct SessionChild(Option<Child>);

impl SessionChild {
    pub(super) fn start() -> io::Result<Self> {
        helper::spawn(Tie::Group, Until::ServerEnds(lifeline()?)).map(|child| Self(Some(child)))
    }
}

impl Equipment for SessionChild {}

impl Drop for SessionChild {
    fn drop(&mut self) {
        // One that is gone already needs no end.
        let _ = self.0.take().map(helper::end);
    }
}

/// A file of a session.
pub(super) struct SessionFile(PathBuf);

impl SessionFile {
    pub(super) fn create(nth: u64) -> io::Result<Self> {
        let name = format!("scupper-fake-{}-session-{nth}", std::process::id());
        let path = std::env::temp_dir().join(name);
        File::create_new(&path)?.write_all(b"scratch of one session\n")?;
        Ok(Self(path))
    }
}

impl Equipment for SessionFile {}

impl Drop for SessionFile {
    fn drop(&mut self) {
        // Somebody who cleans up may have been here first.
        let _ = fs::remove_file(&self.0);
    }
}
