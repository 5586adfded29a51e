package redis

import goredis "github.com/redis/go-redis/v9"

// changeScript replaces one room, if it has not changed since it was read, with its index entries,
// the list of rooms and the revocation. It checks the types of all values before it writes any: a
// script that fails half-way is not undone.
//
//	KEYS  the room, the rooms, the revocations, then the index entries
//	ARGV  the value read, the value to write, the room's name, 1 when it has keys,
//	      a revocation or "", the oldest revocation ID to keep,
//	      then for each index entry its value, "" to remove it
//
// It returns 1 when done, also by an earlier attempt, 0 when the room has changed, and 2 when an
// index entry belongs to another room. A deleted room leaves its last value for a minute, so that a
// late attempt finds it.
var changeScript = goredis.NewScript(`
local now = redis.call('GET', KEYS[1]) or ''
if now == ARGV[2] then return 1 end
if now ~= ARGV[1] then return 0 end
redis.call('ZCARD', KEYS[2])
redis.call('XLEN', KEYS[3])
for i = 4, #KEYS do
	if ARGV[i + 3] ~= '' then
		local there = redis.call('GET', KEYS[i])
		if there and there ~= ARGV[i + 3] then return 2 end
	end
end
if ARGV[5] ~= '' then
	redis.call('XADD', KEYS[3], 'MINID', '~', ARGV[6], '*', 'r', ARGV[5])
end
for i = 4, #KEYS do
	if ARGV[i + 3] == '' then
		redis.call('DEL', KEYS[i])
	else
		redis.call('SET', KEYS[i], ARGV[i + 3])
	end
end
if ARGV[4] == '1' then
	redis.call('SET', KEYS[1], ARGV[2])
	redis.call('ZADD', KEYS[2], 0, ARGV[3])
else
	redis.call('SET', KEYS[1], ARGV[2], 'PX', 60000)
	redis.call('ZREM', KEYS[2], ARGV[3])
end
return 1
`)

// reserveScript returns ARGV[1] numbers, none below ARGV[2]: numbers that a server has used are not
// returned again when Redis has lost the counter.
var reserveScript = goredis.NewScript(`
local now = redis.call('GET', KEYS[1])
local first = tonumber(ARGV[2])
if now then
	local n = tonumber(now)
	if not n or n < 0 or n >= 2^53 then return redis.error_reply('WRONGTYPE the counter is no number') end
	if n > first then first = n end
end
redis.call('SET', KEYS[1], string.format('%.0f', first + tonumber(ARGV[1])))
return string.format('%.0f', first)
`)
