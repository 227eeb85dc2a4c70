//! The rules all pods share: what leaves the node leaves under the node's address.

use plan::service::Cidr;

use crate::nft::{self, Expression, Header, Hook, Register, Transaction};
use crate::{NetworkConfig, NetworkError};

const ICMP: u8 = 1;
const REDIRECT: u8 = 5;
const SCRATCH: Register = Register(0);

/// Puts the rules in place of those an earlier process left, in one step.
pub(super) fn establish(config: &NetworkConfig) -> Result<(), NetworkError> {
    let mut socket = nft::open()?;
    let mut transaction = Transaction::replacing(&config.name, &mut socket)?;
    transaction.base_chain("postrouting", Hook::NatPostrouting);
    let not_to = |link: &str| Expression::Different { register: SCRATCH, value: name_bytes(link) };
    // What the node says to itself leaves by the loopback, which has no address to hide behind: the kernel would drop it.
    let mut leaving = vec![Expression::LoadOutputName(SCRATCH), not_to(&config.name), not_to("lo")];
    leaving.extend(in_network(Header::Source, config.pod_cidr));
    leaving.push(Expression::Masquerade);
    transaction.rule("postrouting", &leaving);
    transaction.base_chain("output", Hook::FilterOutput);
    transaction.rule("output", &redirects(&config.name));
    transaction.commit(&mut socket)
}

/// Takes the rules away.
pub(super) fn remove(config: &NetworkConfig) -> Result<(), NetworkError> {
    let mut socket = nft::open()?;
    Transaction::deleting(&config.name, &mut socket)?.commit(&mut socket)
}

/// A link's name as rules compare it.
pub(crate) fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// Only packets with this address in the network go on.
pub(crate) fn in_network(field: Header, network: Cidr) -> [Expression; 3] {
    [
        Expression::Load { field, into: SCRATCH },
        Expression::Mask { register: SCRATCH, mask: network.mask().to_be_bytes() },
        Expression::Equal { register: SCRATCH, value: network.first().octets().to_vec() },
    ]
}

/// The kernel would tell pods to meet directly on the bridge, where Services don't work.
fn redirects(bridge: &str) -> Vec<Expression> {
    let mut rule = vec![Expression::LoadOutputName(SCRATCH), Expression::Equal { register: SCRATCH, value: name_bytes(bridge) }];
    rule.extend(Expression::protocol(ICMP, SCRATCH));
    rule.push(Expression::Load { field: Header::IcmpType, into: SCRATCH });
    rule.push(Expression::Equal { register: SCRATCH, value: vec![REDIRECT] });
    rule.push(Expression::Drop);
    rule
}
