#include "net/connect.h"

#include <cerrno>

#include "core/io_await.h"
#include "net/resolver.h"

namespace evlua::net {

Task<Result<Socket>> connect(Address address, Instant deadline) {
  Result<Socket> socket = Socket::make(address.family());
  if (!socket) co_return fail(socket.error());
  IoAwait op(OpCode::connect, socket->fd(), OpArgs{.connect = {address.get(), address.length()}});
  op.until(deadline);
  const Result<std::int32_t> connected = co_await op;
  if (!connected) co_return fail(connected.error());
  socket->set_no_delay();
  co_return std::move(*socket);
}

Task<Result<Socket>> connect(std::string host, std::uint16_t port, Instant deadline) {
  if (host.rfind("unix:", 0) == 0) {
    const Result<Address> local = Address::parse(host);
    if (!local) co_return fail(local.error().code, OpCode::connect);
    Result<Socket> socket = co_await connect(*local, deadline);
    co_return socket;
  }
  Result<std::vector<Address>> addresses = co_await resolve(std::move(host), port, deadline);
  if (!addresses) co_return fail(addresses.error());
  Result<Socket> socket = fail(EHOSTUNREACH, OpCode::connect);
  for (const Address& address : *addresses) {
    socket = co_await connect(address, deadline);
    if (socket || socket.error().is(ECANCELED) || socket.error().is(ETIMEDOUT)) break;
  }
  co_return socket;
}

}  // namespace evlua::net
