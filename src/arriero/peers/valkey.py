"""The place where gateways meet, in Valkey or Redis 7 and later (the `cluster` extra).

One script does all of an exchange, so that no other gateway comes in between. Of each limit there
is a hash with what was used, by second and gateway; of the gateways, one with their states. All
times are the server's: the clocks of the gateways need not agree. Keys share a hash tag, so that a
cluster keeps them on one node.
"""

import secrets
from collections.abc import Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from arriero.core.shares import Claim
from arriero.peers.port import Heard, PeersUnavailable

_SCRIPT: Final = """
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second + tonumber(time[2]) / 1000000
local gateway = ARGV[1]

-- The states of the gateways; one that was not renewed for a second is of a gateway that is gone.
redis.call('HSET', KEYS[1], gateway, cmsgpack.pack({now, ARGV[2]}))
redis.call('EXPIRE', KEYS[1], 60)
local others = {}
local states = redis.call('HGETALL', KEYS[1])
for at = 1, #states, 2 do
  local state = cmsgpack.unpack(states[at + 1])
  if now - state[1] > 1 then
    redis.call('HDEL', KEYS[1], states[at])
  elseif states[at] ~= gateway then
    others[#others + 1] = {states[at], state[2]}
  end
end

local function claim(key, limit, want, need, changes, afresh)
  if afresh then
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if string.match(field, ':(.*)') == gateway then redis.call('HDEL', key, field) end
    end
  end
  for _, change in ipairs(changes) do
    redis.call('HINCRBY', key, change[1] .. ':' .. gateway, change[2])
  end
  local used, own, buckets = 0, 0, {}
  local fields = redis.call('HGETALL', key)
  for at = 1, #fields, 2 do
    local when, who = string.match(fields[at], '(%d+):(.*)')
    local amount = tonumber(fields[at + 1])
    when = tonumber(when)
    if when < second - 60 then
      redis.call('HDEL', key, fields[at])
    else
      used = used + amount
      buckets[when] = (buckets[when] or 0) + amount
      if who == gateway then own = own + amount end
    end
  end
  local granted = math.max(0, math.min(want, limit - used))
  if granted > 0 then redis.call('HINCRBY', key, second .. ':' .. gateway, granted) end
  redis.call('EXPIRE', key, 65)
  local wait = 0
  if granted < need then
    local over = used + need - limit
    for when = second - 60, second do
      over = over - (buckets[when] or 0)
      if over <= 0 then wait = when + 61 - now break end
    end
  end
  return {granted, used - own, wait}
end

local grants = {}
for at, asked in ipairs(cmsgpack.unpack(ARGV[3])) do
  grants[at] = claim(KEYS[at + 1], unpack(asked))
end
return cmsgpack.pack({now, grants, others})
"""
_NAME_BYTES = 8


class ValkeyBoard:
    """A connection to one server."""

    def __init__(self, url: str, prefix: str, timeout_s: float) -> None:
        """Prepare to connect. Raises ValueError for a URL that is none."""
        self.name = secrets.token_hex(_NAME_BYTES)
        self._prefix = f"{{{prefix}}}:"
        self._client = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # the next exchange is one
            client_name="arriero",
        )
        self._script = self._client.register_script(_SCRIPT)

    async def exchange(self, names: Sequence[str], claims: Sequence[Claim], state: str) -> Heard:
        """Run the script. Raises PeersUnavailable."""
        keys = [f"{self._prefix}gateways", *(f"{self._prefix}limit\0{name}" for name in names)]
        asked = msgspec.msgpack.encode(claims)
        try:
            told = await self._script(keys=keys, args=[self.name, state, asked])
        except (RedisError, OSError) as error:
            raise PeersUnavailable(type(error).__name__) from error
        try:
            return msgspec.msgpack.decode(told, type=Heard)
        except msgspec.DecodeError as error:
            raise PeersUnavailable("an answer that is none of ours") from error

    async def close(self) -> None:
        """Say that this gateway is gone, and disconnect. Raises PeersUnavailable."""
        try:
            await self._client.hdel(f"{self._prefix}gateways", self.name)
        except (RedisError, OSError) as error:
            raise PeersUnavailable(type(error).__name__) from error
        finally:
            await self._client.aclose()
