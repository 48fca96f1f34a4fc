"""The place where gateways meet, in Valkey or Redis 7 and later (the `cluster` extra).

One script does all of an exchange, so that no other gateway comes in between. Of each limit per
minute there is a hash with what was used, by second and gateway; of each budget one with what each
gateway used, and of each limit on how many run at once one with who holds how many permits, and
since when others wait; of the gateways, one with their states. Hints go through a stream, which
keeps the last ones for ten minutes. All times are the server's: the clocks of the gateways need not
agree. Keys share a hash tag, so that a cluster keeps them on one node.
"""

import secrets
from collections.abc import Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from arriero.peers.port import Heard, PeersUnavailable

_SCRIPT: Final = """
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second + tonumber(time[2]) / 1000000
local gateway = ARGV[1]

-- The states of the gateways; one that was not renewed for a second is of a gateway that is gone.
redis.call('HSET', KEYS[1], gateway, cmsgpack.pack({now, ARGV[2]}))
redis.call('EXPIRE', KEYS[1], 60)
local others, heard = {}, {}
local states = redis.call('HGETALL', KEYS[1])
for at = 1, #states, 2 do
  local state = cmsgpack.unpack(states[at + 1])
  if now - state[1] > 3 then
    redis.call('HDEL', KEYS[1], states[at])
  else
    heard[states[at]] = true
    if now - state[1] <= 1 and states[at] ~= gateway then
      others[#others + 1] = {states[at], state[2]}
    end
  end
end

-- Who was not heard for longer is gone with all that it held.
local function alive(who) return who == gateway or heard[who] ~= nil end

local claim = {}

function claim.minute(key, name, limit, want, need, changes, afresh)
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

function claim.budget(key, name, limit, want, own, base, kept)
  local told = tonumber(redis.call('HGET', key, 'base'))
  if not told or base < told then
    redis.call('HSET', key, 'base', base)
    told = base
  end
  redis.call('HSET', key, gateway, own)
  local used, settled = told, told
  local fields = redis.call('HGETALL', key)
  for at = 1, #fields, 2 do
    if fields[at] ~= 'base' then
      used = used + tonumber(fields[at + 1])
      if not alive(fields[at]) then settled = settled + tonumber(fields[at + 1]) end
    end
  end
  local granted = math.max(0, math.min(want, limit - used))
  if granted > 0 then redis.call('HINCRBY', key, gateway, granted) end
  redis.call('EXPIRE', key, kept)
  return {granted, used - own, settled}
end

function claim.permits(key, name, limit, held, since)
  local free, waiting, elsewhere = limit - held, {}, 0
  for _, when in ipairs(since) do waiting[#waiting + 1] = {when, gateway} end
  local fields = redis.call('HGETALL', key)
  for at = 1, #fields, 2 do
    local who = fields[at]
    if not alive(who) then
      redis.call('HDEL', key, who)
    elseif who ~= gateway then
      local told = cmsgpack.unpack(fields[at + 1])
      free = free - told[1]
      for _, when in ipairs(told[2]) do
        waiting[#waiting + 1] = {when, who}
        elsewhere = elsewhere + 1
      end
    end
  end
  -- After a loss there may be more than the limit: nobody passes permits on before there are fewer.
  if free < 0 then elsewhere = elsewhere + 1 end
  table.sort(waiting, function(a, b)
    if a[1] == b[1] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  local granted = 0
  for at = 1, math.min(free, #waiting) do
    if waiting[at][2] == gateway then granted = granted + 1 end
  end
  local left = {}
  for at = granted + 1, #since do left[#left + 1] = since[at] end
  redis.call('HSET', key, gateway, cmsgpack.pack({held + granted, left}))
  redis.call('EXPIRE', key, 60)
  if #left > 0 then
    redis.call('ZADD', KEYS[2], now, name)
  elseif elsewhere == 0 then
    redis.call('ZREM', KEYS[2], name)
  end
  return {granted, elsewhere, 0}
end

local grants = {}
for at, asked in ipairs(cmsgpack.unpack(ARGV[3])) do
  grants[at] = claim[asked[1]](KEYS[at + 3], ARGV[at + 5], unpack(asked, 2))
end

-- For whose permits somebody waits, or has lately.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 1)
local pressing = redis.call('ZRANGE', KEYS[2], 0, 255)

-- What others told since the last time; a gateway that begins hears what is kept.
local hints, last = {}, ARGV[5]
for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '(' .. last, '+', 'COUNT', 32)) do
  last = entry[1]
  if entry[2][2] ~= gateway then hints[#hints + 1] = entry[2][4] end
end
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', 256, '*', 'from', gateway, 'hints', ARGV[4])
  redis.call('XTRIM', KEYS[3], 'MINID', '~', (second - 600) .. '000')
  redis.call('EXPIRE', KEYS[3], 600)
end
return cmsgpack.pack({now, grants, others, pressing, hints, last})
"""
_NAME_BYTES = 8


class ValkeyBoard:
    """A connection to one server."""

    def __init__(self, url: str, prefix: str, timeout_s: float) -> None:
        """Prepare to connect. Raises ValueError for a URL that is none."""
        self.name = secrets.token_hex(_NAME_BYTES)
        self._prefix = f"{{{prefix}}}:"
        self._heard = "0-0"  # the last hint
        self._client = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # the next exchange is one
            client_name="arriero",
        )
        self._script = self._client.register_script(_SCRIPT)

    async def exchange(
        self, names: Sequence[str], claims: Sequence[msgspec.Struct], state: str, hints: str
    ) -> Heard:
        """Run the script. Raises PeersUnavailable."""
        keys = [f"{self._prefix}{name}" for name in ("gateways", "pressing", "hints")]
        keys += [f"{self._prefix}limit\0{name}" for name in names]
        asked = msgspec.msgpack.encode(claims)
        args: list[str | bytes] = [self.name, state, asked, hints, self._heard, *names]
        try:
            told = await self._script(keys=keys, args=args)
        except (RedisError, OSError) as error:
            raise PeersUnavailable(type(error).__name__) from error
        try:
            heard = msgspec.msgpack.decode(told, type=Heard)
        except msgspec.DecodeError as error:
            raise PeersUnavailable("an answer that is none of ours") from error
        self._heard = heard.last
        return heard

    async def close(self) -> None:
        """Say that this gateway is gone, and disconnect. Raises PeersUnavailable."""
        try:
            await self._client.hdel(f"{self._prefix}gateways", self.name)
        except (RedisError, OSError) as error:
            raise PeersUnavailable(type(error).__name__) from error
        finally:
            await self._client.aclose()
