// Package config holds the server's settings as plain typed values. One table, the tags of Config,
// makes the defaults, the checks, the flags and their help, and docs/settings.md: a new setting is
// one line of it. The package knows how settings are written and which values can be; what they do
// is the business of those who get them.
package config

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Config is every setting of a server. Get one from Default or Load; a zero Config is none.
//
// The tags: key is the name in the file (a dot parts a block from its member); default is written
// as in the file; min and max bound numbers, times and sizes; oneof lists the values that are
// allowed; group, which begins a group, holds for the fields that follow; secret keeps the value
// out of all output and lets it come from a file ("url": a URL that may hold a password); nonempty
// forbids "".
type Config struct {
	ConfigFile string `key:"config_file" default:"livego.yaml" group:"General" help:"The file with the settings. It need not exist unless it is named here."`
	DataDir    string `key:"data_dir" default:"./livego-data" nonempty:"true" help:"The directory of what must last: room keys and the admin token. Made when absent."`
	Level      string `key:"level" default:"info" oneof:"trace,debug,info,warn,warning,error" help:"The least important messages that are logged."`
	LogFormat  string `key:"log_format" default:"auto" oneof:"auto,text,json" help:"How messages are written: auto is coloured on a terminal and text elsewhere."`

	ShutdownTimeout time.Duration `key:"shutdown_timeout" default:"30s" min:"0s" max:"10m" help:"How long a server that was told to stop lets viewers finish."`

	RTMPAddr    string `key:"rtmp_addr" default:":1935" group:"Listeners" help:"Where RTMP is served: encoders and players."`
	HTTPFLVAddr string `key:"httpflv_addr" default:":7001" help:"Where viewers' HTTP is served, for HTTP-FLV by custom."`
	HLSAddr     string `key:"hls_addr" default:":7002" help:"Where viewers' HTTP is served, for HLS by custom."`
	APIAddr     string `key:"api_addr" default:"127.0.0.1:8090" help:"Where the operator's HTTP is served. Outside of loopback it requires the admin token or a JWT."`
	PublicURL   string `key:"public_url" help:"Where a proxy serves viewers' HTTP and the operator's HTTP to the outside: https://live.example.com. Every link that is shown or returned starts with it; links of RTMP have its host."`
	EnableRTMPS bool   `key:"enable_rtmps" default:"false" help:"Serve RTMP over TLS too."`
	RTMPSAddr   string `key:"rtmps_addr" default:":1936" help:"Where RTMP over TLS is served."`
	EnableHTTPS bool   `key:"enable_https" default:"false" help:"Serve viewers over HTTPS and HTTP/2 too."`
	HTTPSAddr   string `key:"https_addr" default:":7443" help:"Where viewers' HTTPS is served."`
	UseHLSHTTPS bool   `key:"use_hls_https" default:"false" help:"Serve HTTPS instead of HTTP on hls_addr."`
	UseAPIHTTPS bool   `key:"use_api_https" default:"false" help:"Serve HTTPS instead of HTTP on api_addr."`
	RTMPSCert   string `key:"rtmps_cert" default:"server.crt" help:"The certificate chain in PEM, for all that is served over TLS."`
	RTMPSKey    string `key:"rtmps_key" default:"server.key" help:"The private key in PEM that belongs to rtmps_cert."`
	ACME        struct {
		Domains  []string `key:"domains" help:"Get certificates for these names by ACME, in place of rtmps_cert. It says yes to the terms of the authority. Port 80 of each name must lead here."`
		Email    string   `key:"email" help:"Where the authority writes to when something is wrong."`
		CA       string   `key:"ca" default:"https://acme-v02.api.letsencrypt.org/directory" help:"The directory of the authority."`
		HTTPPort int      `key:"http_port" default:"80" min:"1" max:"65535" help:"Where the authority's questions are answered: what port 80 of the names leads to."`
	} `key:"acme"`
	EnableTLSVerify bool `key:"enable_tls_verify" default:"true" help:"Check the certificates of servers that this one connects to."`

	RedisAddr  string        `key:"redis_addr" secret:"url" group:"Key store" help:"A Redis or Valkey (6.2 or newer) to keep rooms and keys in, for several servers to share, in place of a file in data_dir: host:port, or a URL. See docs/keys.md."`
	RedisPwd   string        `key:"redis_pwd" secret:"true" help:"Its password, where the URL has none."`
	RedisCache time.Duration `key:"redis_cache" default:"0s" min:"0s" max:"1m" help:"How long a key that was used still publishes while the Redis is away. 0: not at all. A key that was revoked meanwhile elsewhere may publish for so long."`

	RTMPNoAuth    bool          `key:"rtmp_noauth" default:"false" group:"Access" help:"Let anybody publish by room name, without a key."`
	APIHosts      []string      `key:"api_hosts" help:"Host names, besides localhost, by which the operator's HTTP may be reached without a credential from this machine."`
	AdminToken    string        `key:"admin_token" secret:"true" help:"The token that allows everything at the operator's HTTP, at least 16 characters, in place of the one in data_dir."`
	APIAllow      []string      `key:"api_allow" help:"Addresses and ranges (192.168.1.0/24) that may use the operator's HTTP without a credential, keys included. Browsers there only read by plain HTTP. Not with jwt.secret."`
	APIAllowUsers []string      `key:"api_allow_users" help:"System accounts of this machine, such as www-data, whose requests to the operator's HTTP need no credential. A proxy that runs as one of them makes everybody who can reach it the operator."`
	APISession    time.Duration `key:"api_session" default:"12h" min:"1m" max:"720h" help:"How long a browser stays logged in to the operator's page."`
	JWT           struct {
		Secret    string `key:"secret" secret:"true" help:"The secret of the JWTs for the operator's HTTP, at least 16 characters. When set, every request needs a JWT or the admin token."`
		Algorithm string `key:"algorithm" default:"HS256" oneof:"HS256,HS384,HS512" help:"The only algorithm that such a JWT may have."`
		Strict    bool   `key:"strict" default:"false" help:"Refuse JWTs without the claims exp and role. Without this they are valid for as long as the secret, and for everything."`
	} `key:"jwt"`
	Private []string `key:"private" help:"What takes a token to watch: apps (live), rooms (live/movie), or * for everything."`
	Token   struct {
		Secret    string        `key:"secret" secret:"true" help:"The secret of tokens to publish and to watch: JWTs by HS256, and signed URLs. At least 16 characters; livego token makes tokens with it."`
		Previous  string        `key:"previous" secret:"true" help:"The secret before, whose tokens stay good while it stands here."`
		PublicKey string        `key:"public_key" help:"A file with the Ed25519 public key, in PEM, of tokens by EdDSA."`
		JWKSURL   string        `key:"jwks_url" help:"Where the RSA keys of tokens by RS256 are published (JWKS, RFC 7517), by https."`
		Issuer    string        `key:"issuer" help:"What the claim iss of a JWT must be."`
		Audience  string        `key:"audience" help:"What the claim aud of a JWT must be."`
		MaxAge    time.Duration `key:"max_age" default:"24h" min:"1m" max:"8760h" help:"How far in the future a token may expire."`
		Viewers   int           `key:"viewers" default:"0" min:"0" help:"How many may watch with one token at a time, where it does not say. 0: any number."`
		Session   time.Duration `key:"session" default:"24h" min:"1s" max:"8760h" help:"How long a session that starts with a token may last; the claim session of the token can make it shorter. The end of the token itself only limits when a session may start."`
	} `key:"token"`
	Hook struct {
		OnPublish string        `key:"on_publish" secret:"url" help:"A URL that is asked before somebody publishes; without a yes nobody does. See docs/keys.md."`
		OnPlay    string        `key:"on_play" secret:"url" help:"A URL that is asked before somebody watches."`
		Events    string        `key:"events" secret:"url" help:"A URL that receives events: streams that start, are held, resume and end, and recordings."`
		Viewers   bool          `key:"viewers" default:"false" help:"Tell it of viewers who come and go too."`
		Secret    string        `key:"secret" secret:"true" help:"The secret that signs what these URLs are sent. At least 16 characters."`
		Timeout   time.Duration `key:"timeout" default:"3s" min:"100ms" max:"30s" help:"How long they may take to answer."`
	} `key:"hook"`
	AuthFailures   int           `key:"auth_failures" default:"10" min:"0" help:"Wrong keys or credentials a minute from one address before further tries are slowed down. 0: no limit."`
	ConnsPerIP     int           `key:"conns_per_ip" default:"64" min:"0" help:"Idle connections from one address, by RTMP or to viewers' HTTP: those that have delivered no media for conn_idle, or none yet; and connections to the operator's HTTP. At the limit the oldest is closed. 0: no limit."`
	ConnIdle       time.Duration `key:"conn_idle" default:"1m" min:"1s" max:"1h" help:"For how long, or three segments if that is longer, a connection that has delivered media does not count as idle."`
	ConnBurst      time.Duration `key:"conn_burst" default:"1s" min:"0s" max:"1m" help:"For how long new connections of one address beyond conns_per_ip are kept, at most 16 times as many: viewers of one school that arrive at the same time."`
	TrustedProxies []string      `key:"trusted_proxies" help:"Addresses and ranges (10.0.0.0/8) of proxies whose X-Forwarded-For or PROXY protocol header names the client: limits, tokens that are bound to an address, logs and hooks use the address in it. No request becomes local by that."`
	ProxyProtocol  []string      `key:"proxy_protocol" help:"Listeners to which trusted_proxies connect with a header of the PROXY protocol, version 1 or 2: rtmp, rtmps, httpflv, hls, https, api. Connections of others have none."`
	LimitLoopback  bool          `key:"limit_loopback" default:"false" help:"Apply the limits by address to this machine too."`

	PublishHold      time.Duration `key:"publish_hold" default:"20s" min:"0s" max:"2m" group:"Publishing" help:"How long a stream waits for an encoder that was lost; viewers stay."`
	PublishHoldClean time.Duration `key:"publish_hold_clean" default:"0s" min:"0s" max:"2m" help:"How long a stream waits for the next encoder when one has said goodbye."`
	Takeover         string        `key:"takeover" default:"idle" oneof:"idle,always,never" help:"When a second encoder with the key of a live stream takes it over: when the first is idle, always or never."`
	PublishIdle      time.Duration `key:"publish_idle" default:"2s" min:"100ms" max:"1m" help:"An encoder that has sent nothing for so long is idle."`
	BackupReturn     time.Duration `key:"backup_return" default:"10s" min:"100ms" max:"10m" help:"How long the main encoder must be well before it takes over from its backup."`
	RAPWait          time.Duration `key:"rap_wait" default:"10s" min:"100ms" max:"1m" help:"A video without a point to start at for so long is started where the encoder says."`
	TrackWait        time.Duration `key:"track_wait" default:"2s" min:"0s" max:"30s" help:"How long the start of a stream waits for tracks that were announced."`
	MaxMessage       Bytes         `key:"max_message" default:"8MiB" min:"64KiB" max:"1GiB" help:"The largest audio or video message that is taken."`

	GopNum      int           `key:"gop_num" default:"1" min:"0" group:"Viewing" help:"At which keyframe, counted back from the newest, viewers start. 0: at the live edge."`
	Latency     string        `key:"latency" default:"gop" oneof:"gop,live-edge" help:"How viewers start: gop at a keyframe, with a picture at once; live-edge with audio now and video at the next keyframe."`
	PlayWait    time.Duration `key:"play_wait" default:"30s" min:"0s" max:"24h" help:"How long a player waits for a stream that is not live. 0: without a limit."`
	MaxLatency  time.Duration `key:"max_latency" default:"4s" min:"500ms" max:"5m" help:"How far a viewer may fall behind before it is moved to a newer keyframe."`
	BatchWindow BatchWindow   `key:"gather" default:"auto" max:"200ms" help:"How long frames are gathered at most before they are written to viewers: longer costs less. Nobody waits for a picture that comes later than that, and sound waits for the picture, at most twice as long. auto: the longer, the more viewers, and the busier the server."`
	RingTime    time.Duration `key:"ring_time" default:"30s" min:"1s" max:"10m" help:"How much of a stream is held in memory for viewers, at most."`
	RingSize    Bytes         `key:"ring_size" default:"64MiB" min:"1MiB" max:"64GiB" help:"How many bytes of a stream are held in memory for viewers, at most."`

	HLSSegment        time.Duration `key:"hls_segment" default:"2s" min:"500ms" max:"6s" group:"HLS" help:"How long a segment is to be; it ends at the next keyframe."`
	HLSPart           time.Duration `key:"hls_part" default:"200ms" min:"0s" max:"1s" help:"How long a part of a segment is to be, for low latency; it is a whole number of frames. 0: no parts."`
	HLSWindow         int           `key:"hls_window" default:"8" min:"8" max:"1000" help:"How many segments' worth of time a playlist lists."`
	HLSKeepAfterEnd   bool          `key:"hls_keep_after_end" default:"false" help:"Keep the playlist of a stream that has ended until it is published again."`
	HLSStartWait      time.Duration `key:"hls_start_wait" default:"10s" min:"0s" max:"1m" help:"How long a request for a playlist waits for the first segment."`
	HLSSessionTimeout time.Duration `key:"hls_session_timeout" default:"30s" min:"1s" max:"10m" help:"A viewer who has asked for nothing for so long is counted as gone."`

	RelayAllow []string `key:"relay_allow" group:"Relays" help:"Addresses, ranges (10.0.0.0/8) and host names on private networks and this machine, to which relays may go that the operator's HTTP starts. Those of static_push may in any case."`
	RelayMax   int      `key:"relay_max" default:"100" min:"0" help:"Relays that the operator's HTTP may start at a time."`

	ReadTimeout      time.Duration `key:"read_timeout" default:"10s" min:"1s" max:"2m" group:"Connections" help:"The longest time without a whole message from an encoder before it counts as lost."`
	WriteTimeout     time.Duration `key:"write_timeout" default:"10s" min:"100ms" max:"2m" help:"A viewer who has taken nothing for so long is ended."`
	AnswerTimeout    time.Duration `key:"answer_timeout" default:"30s" min:"1s" max:"1h" help:"How long a viewer may take for a playlist, a segment or a part by HLS, or four times what it plays if that is longer."`
	HandshakeTimeout time.Duration `key:"handshake_timeout" default:"5s" min:"100ms" max:"1m" help:"How long a handshake may take, TLS included."`
	CommandTimeout   time.Duration `key:"command_timeout" default:"10s" min:"100ms" max:"2m" help:"How long an RTMP connection may take to publish or play, the handshake included."`
	HeaderTimeout    time.Duration `key:"http_read_header_timeout" default:"5s" min:"100ms" max:"1m" help:"How long the header of an HTTP request may take."`
	IdleTimeout      time.Duration `key:"http_idle_timeout" default:"60s" min:"1s" max:"1h" help:"How long an HTTP connection is kept between requests."`

	FLVArchive bool   `key:"flv_archive" default:"false" group:"Recording" help:"Record every stream to FLV files. See docs/recording.md."`
	FLVDir     string `key:"flv_dir" default:"tmp" nonempty:"true" help:"The directory of the recordings: flv_dir/APP/ROOM_UNIXSECONDS.flv. Made when absent."`
	RecordMode Mode   `key:"record_mode" default:"0640" help:"The mode of new recordings, in octal: who may read them. Directories that are made can be listed by the same users. What exists keeps its mode."`

	// Apps are the entries of server, each with a name of its own; there is at least one.
	Apps []App
}

// App is one application: the first part of a stream's address.
type App struct {
	Name string // appname
	Live bool   // publish and play
	HLS  bool   // viewers by HLS
	FLV  bool   // viewers by HTTP-FLV
	API  bool   // relays by the operator's HTTP

	StaticPush Targets // where each stream is pushed to: each URL, a slash and the room
}

// Targets are URLs that may hold secrets, which no output shows.
type Targets []string

func (t Targets) String() string { return fmt.Sprintf("(%d set)", len(t)) }

// GoString keeps them out of %#v too.
func (t Targets) GoString() string { return t.String() }

func newApp(name string) App { return App{Name: name, Live: true, HLS: true, FLV: true, API: true} }

// BatchWindow is for how long frames are gathered before viewers are written to.
type BatchWindow struct {
	Auto  bool          // by the number of viewers
	Fixed time.Duration // when not Auto
}

func (g BatchWindow) String() string {
	if g.Auto {
		return "auto"
	}
	return g.Fixed.String()
}

// Mode is who may read and write a new file: permissions as chmod takes them, in octal.
type Mode uint32

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// Perm returns m as the standard library has it.
func (m Mode) Perm() fs.FileMode { return fs.FileMode(m) }

// Bytes is a size.
type Bytes int64

func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

var byteUnits = [...]struct {
	name string
	size Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// Default returns the settings of a server that was told nothing.
func Default() Config {
	c := Config{Apps: []App{newApp("live")}}
	for _, f := range fields() {
		if err := f.set(&c, f.Default); err != nil {
			panic("config: the default of " + f.Key + " " + err.Error())
		}
	}
	return c
}

// String lists the settings as key=value, without the secrets.
func (c Config) String() string {
	var b strings.Builder
	for _, a := range c.attrs() {
		fmt.Fprintf(&b, "%s=%s ", a.Key, a.Value)
	}
	return strings.TrimSuffix(b.String(), " ")
}

// GoString keeps secrets out of %#v too.
func (c Config) GoString() string { return "config.Config{" + c.String() + "}" }

// LogValue returns the settings as a group, without the secrets.
func (c Config) LogValue() slog.Value { return slog.GroupValue(c.attrs()...) }

func (c Config) attrs() []slog.Attr {
	var attrs []slog.Attr
	for _, f := range fields() {
		text := f.text(&c)
		if f.secret != "" && text != "" {
			text = "(set)"
		}
		attrs = append(attrs, slog.String(f.Key, text))
	}
	return append(attrs, slog.String("server", fmt.Sprintf("%+v", c.Apps)))
}
