//! `wasi:sockets` without sockets: making one and looking a name up are denied, so no program ever has a socket to call
//! anything on. Requests go out by `wasi:http/outgoing-handler`.

use wasmtime::{
    Result,
    component::{ComponentType, Lift, Lower, Resource, WasmStr},
};

use super::{At, Cx, error::IoError};

/// The network, to which nothing is allowed.
pub struct Network;
/// A TCP socket, which nobody ever gets.
pub enum TcpSocket {}
/// A UDP socket, which nobody ever gets.
pub enum UdpSocket {}
/// Datagrams to read, which nobody ever gets.
pub enum IncomingDatagramStream {}
/// Datagrams to write, which nobody ever gets.
pub enum OutgoingDatagramStream {}
/// Addresses, which nobody ever gets.
pub enum ResolveAddressStream {}

/// What could be made or asked for, with its refusal.
type Denied<T> = (Result<Resource<T>, ErrorCode>,);

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "instance-network" => {
            at.func_wrap(name, |mut cx: Cx<'_>, (): ()| Ok((cx.data_mut().push(Network)?,)))
        }
        // No error here comes from a socket.
        "network-error-code" => {
            at.func_wrap(name, |_: Cx<'_>, (_,): (Resource<IoError>,)| Ok((None::<ErrorCode>,)))
        }
        "resolve-addresses" => at.func_wrap(name, |_: Cx<'_>, (_, _): (Resource<Network>, WasmStr)| {
            denied::<ResolveAddressStream>()
        }),
        "create-tcp-socket" => {
            at.func_wrap(name, |_: Cx<'_>, (_,): (IpAddressFamily,)| denied::<TcpSocket>())
        }
        "create-udp-socket" => {
            at.func_wrap(name, |_: Cx<'_>, (_,): (IpAddressFamily,)| denied::<UdpSocket>())
        }
        _ => {
            const KINDS: [&str; 5] = [
                "tcp-socket",
                "udp-socket",
                "incoming-datagram-stream",
                "outgoing-datagram-stream",
                "resolve-address-stream",
            ];
            return super::link::of_nothing(at, name, &KINDS);
        }
    }?;
    Ok(true)
}

fn denied<T: 'static>() -> Result<Denied<T>> {
    Ok((Err(ErrorCode::AccessDenied),))
}

#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // guests make them
enum IpAddressFamily {
    #[component(name = "ipv4")]
    Ipv4,
    #[component(name = "ipv6")]
    Ipv6,
}

/// Names and order are the interface's.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // one value is all there is to say
enum ErrorCode {
    #[component(name = "unknown")]
    Unknown,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "not-supported")]
    NotSupported,
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "out-of-memory")]
    OutOfMemory,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "concurrency-conflict")]
    ConcurrencyConflict,
    #[component(name = "not-in-progress")]
    NotInProgress,
    #[component(name = "would-block")]
    WouldBlock,
    #[component(name = "invalid-state")]
    InvalidState,
    #[component(name = "new-socket-limit")]
    NewSocketLimit,
    #[component(name = "address-not-bindable")]
    AddressNotBindable,
    #[component(name = "address-in-use")]
    AddressInUse,
    #[component(name = "remote-unreachable")]
    RemoteUnreachable,
    #[component(name = "connection-refused")]
    ConnectionRefused,
    #[component(name = "connection-reset")]
    ConnectionReset,
    #[component(name = "connection-aborted")]
    ConnectionAborted,
    #[component(name = "datagram-too-large")]
    DatagramTooLarge,
    #[component(name = "name-unresolvable")]
    NameUnresolvable,
    #[component(name = "temporary-resolver-failure")]
    TemporaryResolverFailure,
    #[component(name = "permanent-resolver-failure")]
    PermanentResolverFailure,
}
