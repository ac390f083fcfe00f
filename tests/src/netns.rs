//! Network namespaces as a small town: hosts with one cable each, switches, trunks between switches, and
//! every cable can be pulled. Needs root and iproute2. Nothing appears in the namespace of the caller, so
//! neither its addresses nor its routes matter. Delay, loss and reordering are left to `relay`.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::process::complain;
use crate::skip::skipped;

/// Where iproute2 keeps the names.
const NAMES: &str = "/run/netns";
const PREFIX: &str = "yika";
/// Hosts of one town; the addresses of a /24, less those of network and broadcast.
const HOSTS: usize = 253;
const CONNECT_MS: u64 = 2_000;
/// The kernel gathers changes of carriers and tells switches of them once a second.
const CARRIER_MS_MAX: u64 = 5_000;
const CARRIER_POLL_MS: u64 = 5;

/// A town of hosts and switches; removed with everything in it when dropped.
#[derive(Debug)]
pub struct Namespaces {
    /// Unique among all processes of this machine.
    name: String,
    network: u8,
    hosts: usize,
    cables: usize,
    switches: Vec<String>,
    /// Every namespace made, the one of the switches first.
    made: Vec<String>,
}

/// One host with the address of its only cable, `eth0`.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
    link: Link,
}

/// A cable: of a host to its switch, or of a switch to another.
#[derive(Clone, Debug)]
pub struct Link {
    switches: String,
    port: String,
}

impl Namespaces {
    /// Whether namespaces can be used here; if not, see [`skipped`].
    #[must_use]
    #[track_caller]
    pub fn available() -> bool {
        match Self::new() {
            Ok(_) => true,
            Err(error) => {
                skipped(&format!("no network namespaces ({error:#}); run as root with iproute2"), true);
                false
            }
        }
    }

    /// An empty town.
    ///
    /// # Errors
    /// Not root, iproute2 is missing, or the kernel refuses namespaces.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        remove_orphans();
        let network = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{network}", std::process::id());
        let mut town = Self { name, network, hosts: 0, cables: 0, switches: Vec::new(), made: Vec::new() };
        town.make("switches")?;
        Ok(town)
    }

    fn make(&mut self, role: &str) -> Result<String> {
        let name = format!("{}-{role}", self.name);
        if self.made.contains(&name) {
            bail!("network namespace {role} exists twice: choose another name");
        }
        ip(&["netns", "add", &name])?;
        self.made.push(name.clone());
        Ok(name)
    }

    /// A switch without cables.
    ///
    /// # Errors
    /// The name is taken, or `ip` fails.
    pub fn switch(&mut self, name: &str) -> Result<()> {
        if self.switches.iter().any(|s| s == name) {
            bail!("switch {name} exists twice: choose another name");
        }
        let bridge = format!("b{}", self.switches.len());
        // Without snooping multicast reaches every port, as mDNS needs it.
        let add = ["link", "add", &bridge, "type", "bridge", "mcast_snooping", "0"];
        self.inside(&add)?;
        self.inside(&["link", "set", &bridge, "up"])?;
        self.switches.push(name.to_owned());
        Ok(())
    }

    /// A host at a switch, with the next address of the town.
    ///
    /// # Errors
    /// The name is taken, the switch is unknown, the town is full, or `ip` fails.
    pub fn host(&mut self, name: &str, switch: &str) -> Result<Namespace> {
        let bridge = self.bridge(switch)?;
        if self.hosts == HOSTS {
            bail!("a town has at most {HOSTS} hosts");
        }
        let host = self.make(name)?;
        self.hosts += 1;
        let address = Ipv4Addr::new(10, 203, self.network, u8::try_from(self.hosts)?);
        let port = self.next_port();
        self.inside(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host])?;
        self.plug(&port, &bridge)?;
        ip(&["-n", &host, "link", "set", "lo", "up"])?;
        ip(&["-n", &host, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &host, "link", "set", "eth0", "up"])?;
        shows(&host, "eth0", "state UP")?;
        let link = Link { switches: self.made[0].clone(), port };
        link.carries()?;
        Ok(Namespace { name: host, address, link })
    }

    /// A cable between two switches, such as the uplink of a campus. There must be one way only between
    /// any two hosts.
    ///
    /// # Errors
    /// A switch is unknown, or `ip` fails.
    pub fn trunk(&mut self, one: &str, other: &str) -> Result<Link> {
        let bridges = [self.bridge(one)?, self.bridge(other)?];
        let ports = [self.next_port(), self.next_port()];
        self.inside(&["link", "add", &ports[0], "type", "veth", "peer", "name", &ports[1]])?;
        self.plug(&ports[0], &bridges[0])?;
        self.plug(&ports[1], &bridges[1])?;
        let [port, far] = ports.map(|port| Link { switches: self.made[0].clone(), port });
        port.carries()?;
        far.carries()?;
        Ok(port)
    }

    fn next_port(&mut self) -> String {
        self.cables += 1;
        format!("p{}", self.cables)
    }

    fn plug(&self, port: &str, bridge: &str) -> Result<()> {
        self.inside(&["link", "set", port, "master", bridge, "up"])
    }

    fn bridge(&self, switch: &str) -> Result<String> {
        let known = self.switches.iter().position(|s| s == switch);
        known.map(|n| format!("b{n}")).ok_or_else(|| anyhow!("no switch {switch} in {:?}", self.switches))
    }

    fn inside(&self, words: &[&str]) -> Result<()> {
        ip(&[&["-n", self.made[0].as_str()], words].concat())?;
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.made.iter().rev() {
            if let Err(error) = ip(&["netns", "del", name]) {
                complain(&format!("network namespace {name} stays: {error:#}"));
            }
        }
    }
}

impl Link {
    /// Pulls the cable: both ends lose their carrier.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn down(&self) -> Result<()> {
        self.set("down")
    }

    /// Plugs it in again; returns when frames pass.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn up(&self) -> Result<()> {
        self.set("up")?;
        self.carries()
    }

    /// Waits until the switch forwards what comes over the cable; before that it drops every frame.
    fn carries(&self) -> Result<()> {
        shows(&self.switches, &self.port, "state forwarding")
    }

    fn set(&self, state: &str) -> Result<()> {
        ip(&["-n", &self.switches, "link", "set", &self.port, state])?;
        Ok(())
    }
}

impl Namespace {
    /// The name as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The only address beside loopback, reached from every connected host of the town.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Words that run a program in here: `ip netns exec NAME`, for [`crate::process::Launch::prefix`].
    #[must_use]
    pub fn exec(&self) -> [String; 4] {
        ["ip", "netns", "exec", &self.name].map(str::to_owned)
    }

    /// The host's cable.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Runs `work` in a thread of this namespace, to open sockets there; they stay there wherever they
    /// are used. Tokio's sockets are made from those of `std`, set to non-blocking.
    ///
    /// # Errors
    /// What `work` returns, or the namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        within(&Path::new(NAMES).join(&self.name), work)
    }

    /// A port of the caller's loopback that leads to `port` of this host's loopback.
    ///
    /// # Errors
    /// The namespace is gone, or no port is free.
    pub async fn expose(&self, port: u16) -> Result<Exposed> {
        let path = Path::new(NAMES).join(&self.name);
        path.metadata().with_context(|| format!("network namespace {} is gone", self.name))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(listener, path, port));
        Ok(Exposed { address, _tasks: tasks })
    }
}

/// A door from the caller's loopback into a namespace; closed when dropped.
#[derive(Debug)]
pub struct Exposed {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Exposed {
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

async fn forward(listener: TcpListener, path: PathBuf, port: u16) {
    let mut tasks = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let path = path.clone();
        // A refused connection shows at the near end as one that is closed at once.
        tasks.spawn(async move {
            let connect = move || within(&path, || connect(port));
            if let Ok(Ok(far)) = tokio::task::spawn_blocking(connect).await
                && let Ok(mut far) = tokio::net::TcpStream::from_std(far)
            {
                let _ = near.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
        while tasks.try_join_next().is_some() {}
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let far = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_millis(CONNECT_MS))?;
    far.set_nodelay(true)?;
    far.set_nonblocking(true)?;
    Ok(far)
}

fn within<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    use std::os::fd::AsFd;
    let namespace = File::open(path)?;
    // A thread that lives no longer than the work, so that no other work runs in the wrong place.
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    })
}

/// Waits until the kernel says `words` of an interface.
fn shows(namespace: &str, interface: &str, words: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_millis(CARRIER_MS_MAX);
    loop {
        let said = ip(&["-n", namespace, "-d", "-o", "link", "show", "dev", interface])?;
        if said.contains(words) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("{interface} in {namespace} does not come to {words:?}: {said}");
        }
        std::thread::sleep(Duration::from_millis(CARRIER_POLL_MS));
    }
}

fn ip(words: &[&str]) -> Result<String> {
    let done = Command::new("ip").args(words).output().context("cannot run ip: install the Debian package iproute2")?;
    if !done.status.success() {
        bail!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Removes what processes left that were killed and could not.
fn remove_orphans() {
    let Ok(entries) = std::fs::read_dir(NAMES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        if parts.next() == Some(PREFIX)
            && let Some(id) = parts.next().filter(|id| id.parse::<u32>().is_ok())
            && !Path::new("/proc").join(id).exists()
        {
            // Another process may be doing the same.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}
