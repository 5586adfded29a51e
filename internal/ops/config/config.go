// Package config holds the server's settings as plain typed values. One table, the tags of Config,
// defines the defaults, the checks, the flags with their help, and docs/settings.md: a new setting
// is one line in it. The package knows how settings are written and which values are valid; what
// they do is up to their users.
package config

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Config holds every setting of a server. Get one from Default or Load; the zero Config is not
// valid.
//
// The tags: key is the name in the file, with a dot between a block and its member; old is a
// deprecated name of the setting; default is written as in the file; min and max limit numbers,
// durations and sizes; oneof lists the allowed values; group starts a group, which includes the
// fields that follow; secret keeps the value out of all output and lets it come from a file ("url":
// a URL that may contain a password); nonempty forbids ""; reload is when a changed value takes effect
// in a running server; write is the role that may change it through the API, by default admin.
type Config struct {
	ConfigFile  string `key:"config_file" default:"livego.yaml" group:"General" reload:"restart" write:"no" help:"The settings file. It may be missing unless it is named here. Without livego.yaml in the working directory, /etc/livego/livego.yaml is read if it exists."`
	ConfigWatch bool   `key:"config_watch" default:"false" reload:"live" write:"operate" help:"Reload the settings when the settings file changes."`
	DataDir     string `key:"data_dir" default:"./livego-data" nonempty:"true" reload:"restart" write:"no" help:"The directory for stream keys, the admin token and other data that must last. Created if missing."`
	Level       string `key:"level" default:"info" oneof:"trace,debug,info,warn,warning,error" reload:"live" write:"operate" help:"The minimum level of log messages."`
	LogFormat   string `key:"log_format" default:"auto" oneof:"auto,text,json" reload:"restart" write:"operate" help:"The format of log messages: auto is colored text on a terminal and plain text elsewhere."`

	ShutdownTimeout time.Duration `key:"shutdown_timeout" default:"30s" min:"0s" max:"10m" reload:"live" write:"operate" help:"How long a graceful shutdown may take: viewers receive the rest, recordings are closed."`
	ShutdownDelay   time.Duration `key:"shutdown_delay" default:"0s" min:"0s" max:"5m" reload:"live" write:"operate" help:"How long a graceful shutdown goes on serving while /readyz answers 503, so that load balancers send no new clients. Part of shutdown_timeout."`
	ReconnectURL    string        `key:"reconnect_url" reload:"new connections" help:"The server that encoders and players are asked to reconnect to in a graceful shutdown, without the app: rtmp://live2.example.com. Only clients with the Reconnect Request of Enhanced RTMP are asked."`

	RTMPAddr     string   `key:"rtmp_addr" default:":1935" group:"Listeners" reload:"restart" help:"The address for RTMP: encoders and players."`
	HTTPFLVAddr  string   `key:"httpflv_addr" default:":7001" reload:"restart" help:"The address for viewers' HTTP, by convention for HTTP-FLV."`
	HLSAddr      string   `key:"hls_addr" default:":7002" reload:"restart" help:"The address for viewers' HTTP, by convention for HLS."`
	APIAddr      string   `key:"api_addr" default:"127.0.0.1:8090" reload:"restart" help:"The address for the operator's HTTP. Clients from other machines need the admin token or a JWT."`
	MetricsAddr  string   `key:"metrics_addr" reload:"restart" help:"An address for /metrics, /healthz and /readyz, over HTTP without a credential: any client that reaches it may read them. If set, /metrics is no longer at api_addr. See docs/metrics.md."`
	PublicURL    string   `key:"public_url" reload:"live" help:"The public URL of a proxy for viewers' HTTP and the operator's HTTP: https://live.example.com. All links start with it; RTMP links have its host."`
	EmbedOrigins []string `key:"embed_origins" default:"*" reload:"live" help:"Origins of the web pages that may embed the player page: https://www.example.com, https://*.example.com, or * for all. If empty, none may."`
	EnableRTMPS  bool     `key:"enable_rtmps" default:"false" reload:"restart" help:"Serve RTMP over TLS as well."`
	RTMPSAddr    string   `key:"rtmps_addr" default:":1936" reload:"restart" help:"The address for RTMP over TLS."`
	EnableHTTPS  bool     `key:"enable_https" default:"false" reload:"restart" help:"Serve viewers over HTTPS and HTTP/2 as well."`
	HTTPSAddr    string   `key:"https_addr" default:":7443" reload:"restart" help:"The address for viewers' HTTPS."`
	UseHLSHTTPS  bool     `key:"use_hls_https" default:"false" reload:"restart" help:"Serve HTTPS instead of HTTP on hls_addr."`
	UseAPIHTTPS  bool     `key:"use_api_https" default:"false" reload:"restart" help:"Serve HTTPS instead of HTTP on api_addr."`
	RTMPSCert    string   `key:"rtmps_cert" default:"server.crt" reload:"live" help:"The certificate chain in PEM, for all TLS listeners."`
	RTMPSKey     string   `key:"rtmps_key" default:"server.key" reload:"live" help:"The private key of rtmps_cert in PEM."`
	ACME         struct {
		Domains  []string `key:"domains" reload:"restart" help:"Get certificates for these domain names by ACME, instead of rtmps_cert. This accepts the terms of the authority. Port 80 of each name must lead to this server."`
		Email    string   `key:"email" reload:"restart" help:"The contact address for problems with the certificates."`
		CA       string   `key:"ca" default:"https://acme-v02.api.letsencrypt.org/directory" reload:"restart" help:"The directory URL of the certificate authority."`
		HTTPPort int      `key:"http_port" default:"80" min:"1" max:"65535" reload:"restart" help:"The port for HTTP-01 challenges, to which port 80 of the domains leads."`
	} `key:"acme"`
	EnableTLSVerify bool `key:"enable_tls_verify" default:"true" reload:"restart" help:"Verify the certificates of servers that this server connects to."`

	RedisAddr  string        `key:"redis_addr" secret:"url" group:"Key store" reload:"restart" help:"A Redis or Valkey (6.2 or newer) for rooms and keys that several servers share, instead of a file in data_dir: host:port, or a URL. See docs/keys.md."`
	RedisPwd   string        `key:"redis_pwd" secret:"true" reload:"restart" help:"The password of Redis, if the URL has none."`
	RedisCache time.Duration `key:"redis_cache" default:"0s" min:"0s" max:"1m" reload:"restart" help:"How long a used key stays valid for publishing while Redis is unavailable. 0: not at all. A key that another server revoked meanwhile stays valid for that long."`

	ClusterAddr           string        `key:"cluster_addr" group:"Cluster" reload:"restart" help:"The address at which the other nodes of a cluster connect; if set, this server is a node. Only nodes that prove that they know cluster_secret are served. See docs/cluster.md."`
	ClusterSecret         string        `key:"cluster_secret" secret:"true" reload:"restart" help:"The secret of the cluster, the same on all nodes. At least 16 characters."`
	ClusterSecretPrevious string        `key:"cluster_secret_previous" secret:"true" reload:"restart" help:"Another secret that is valid too, while the secret is replaced on one node after another."`
	NodeID                string        `key:"node_id" reload:"restart" write:"no" help:"The name of this node, which no other node may have. By default a random one, which is kept in data_dir."`
	ClusterNodes          []string      `key:"cluster_nodes" reload:"restart" help:"The nodes of the cluster with the addresses at which the others reach them: NODE=HOST:PORT. The entry of this node has no effect."`
	ClusterOwners         []string      `key:"cluster_owners" reload:"restart" help:"Which node owns which streams: live=NODE for an app, live/movie=NODE for a room, or *=NODE for all others. A stream is published on its owner, and watched on every node. Streams without an entry stay on the node on which they are published."`
	ClusterIdle           time.Duration `key:"cluster_idle" default:"30s" min:"1s" max:"1h" reload:"live" write:"operate" help:"How long a stream of another node is replicated at least after its last viewer has left."`

	RTMPNoAuth    bool          `key:"rtmp_noauth" default:"false" group:"Access" reload:"live" help:"Allow publishing by room name, without a key."`
	APIHosts      []string      `key:"api_hosts" reload:"live" help:"Host names, besides localhost, at which this machine may use the operator's HTTP without a credential."`
	AdminToken    string        `key:"admin_token" secret:"true" reload:"live" help:"The admin token, which allows everything at the operator's HTTP, instead of the one in data_dir. At least 16 characters."`
	APIAllow      []string      `key:"api_allow" reload:"live" help:"Addresses and ranges (192.168.1.0/24) that may use the operator's HTTP without a credential, including keys. Their browsers can only read over plain HTTP. Not with jwt.secret."`
	APIAllowUsers []string      `key:"api_allow_users" reload:"live" help:"System accounts of this machine, such as www-data, that need no credential for the operator's HTTP. If a proxy runs as one of them, all its clients are operators."`
	APISession    time.Duration `key:"api_session" default:"12h" min:"1m" max:"720h" reload:"live" help:"How long a browser stays logged in to the operator's page."`
	JWT           struct {
		Secret    string `key:"secret" secret:"true" reload:"live" help:"The secret for JWTs of the operator's HTTP, at least 16 characters. If set, every request needs a JWT or the admin token, except for /healthz, /readyz and, from this machine, /metrics."`
		Algorithm string `key:"algorithm" default:"HS256" oneof:"HS256,HS384,HS512" reload:"live" help:"The only accepted algorithm of these JWTs."`
		Strict    bool   `key:"strict" default:"false" reload:"live" help:"Refuse JWTs without the claims exp and role. Otherwise such a JWT does not expire, and allows everything."`
	} `key:"jwt"`
	Private []string `key:"private" reload:"live" write:"operate" help:"Streams that need a token to watch: apps (live), rooms (live/movie), or * for all."`
	Token   struct {
		Secret    string        `key:"secret" secret:"true" reload:"live" help:"The secret for publish and play tokens: JWTs with HS256, and signed URLs. At least 16 characters; livego token makes tokens with it."`
		Previous  string        `key:"previous" secret:"true" reload:"live" help:"The previous secret. Its tokens stay valid while it is set."`
		PublicKey string        `key:"public_key" reload:"live" help:"A file with an Ed25519 public key, in PEM, for tokens with EdDSA."`
		JWKSURL   string        `key:"jwks_url" reload:"live" help:"The https URL of the RSA keys (JWKS, RFC 7517) for tokens with RS256."`
		Issuer    string        `key:"issuer" reload:"live" help:"The required value of the claim iss."`
		Audience  string        `key:"audience" reload:"live" help:"The required value of the claim aud."`
		MaxAge    time.Duration `key:"max_age" default:"24h" min:"1m" max:"8760h" reload:"live" help:"The maximum time until a token expires."`
		Viewers   int           `key:"viewers" default:"0" min:"0" reload:"live" write:"operate" help:"How many viewers may use a token at a time, if the token sets no limit. 0: no limit."`
		Session   time.Duration `key:"session" default:"24h" min:"1s" max:"8760h" reload:"live" write:"operate" help:"The maximum duration of a session that starts with a token; the claim session of the token can shorten it. The expiry of the token only limits when a session may start."`
	} `key:"token"`
	Hook struct {
		OnPublish string        `key:"on_publish" secret:"url" reload:"live" help:"A webhook URL that must allow each publisher. See docs/keys.md."`
		OnPlay    string        `key:"on_play" secret:"url" reload:"live" help:"A webhook URL that must allow each viewer."`
		Events    string        `key:"events" secret:"url" reload:"live" help:"A webhook URL for events: streams that start, are held, resume and end, and recordings."`
		Viewers   bool          `key:"viewers" default:"false" reload:"live" help:"Also send events when viewers come and go."`
		Secret    string        `key:"secret" secret:"true" reload:"live" help:"The secret that signs requests to webhooks. At least 16 characters."`
		Timeout   time.Duration `key:"timeout" default:"3s" min:"100ms" max:"30s" reload:"live" help:"How long a webhook may take to respond."`
	} `key:"hook"`
	AuthFailures   int           `key:"auth_failures" default:"10" min:"0" reload:"live" write:"operate" help:"How many wrong keys or credentials per minute from one address are accepted without delay. 0: no limit."`
	ConnsPerIP     int           `key:"conns_per_ip" default:"64" min:"0" reload:"live" write:"operate" help:"The maximum number of idle connections per address, over RTMP or to viewers' HTTP: those that delivered no media for conn_idle, or none yet; and of connections to the operator's HTTP. At the limit the oldest is closed. 0: no limit."`
	ConnIdle       time.Duration `key:"conn_idle" default:"1m" min:"1s" max:"1h" reload:"live" write:"operate" help:"After what time without media, or three segments if that is longer, a connection counts as idle."`
	ConnBurst      time.Duration `key:"conn_burst" default:"1s" min:"0s" max:"1m" reload:"live" write:"operate" help:"How long new connections beyond conns_per_ip are kept, up to 16 times as many: for many viewers at one address that arrive at the same time."`
	TrustedProxies []string      `key:"trusted_proxies" reload:"live" help:"Addresses and ranges (10.0.0.0/8) of proxies whose X-Forwarded-For or PROXY protocol header names the client. Limits, address-bound tokens, logs and webhooks use that address. It never makes a request local."`
	ProxyProtocol  []string      `key:"proxy_protocol" reload:"restart" help:"Listeners that expect a PROXY protocol header (version 1 or 2) from trusted_proxies: rtmp, rtmps, httpflv, hls, https, api. Connections from other addresses have none."`
	LimitLoopback  bool          `key:"limit_loopback" default:"false" reload:"restart" write:"operate" help:"Apply the limits per address to this machine too."`

	PublishHold      time.Duration `key:"publish_hold" default:"20s" min:"0s" max:"2m" group:"Publishing" reload:"live" write:"operate" help:"How long a stream and its viewers are held after its encoder was lost."`
	PublishHoldClean time.Duration `key:"publish_hold_clean" default:"0s" min:"0s" max:"2m" reload:"live" write:"operate" help:"How long a stream is held after its encoder ended it."`
	Takeover         string        `key:"takeover" default:"idle" oneof:"idle,always,never" reload:"live" write:"operate" help:"When a second encoder with the key of a live stream takes over: if the first is idle, always or never."`
	PublishIdle      time.Duration `key:"publish_idle" default:"2s" min:"100ms" max:"1m" reload:"live" write:"operate" help:"After what time without data an encoder is idle."`
	BackupReturn     time.Duration `key:"backup_return" default:"10s" min:"100ms" max:"10m" reload:"live" write:"operate" help:"How long the primary encoder must be healthy before it takes over from its backup."`
	RAPWait          time.Duration `key:"rap_wait" default:"10s" min:"100ms" max:"1m" reload:"live" write:"operate" help:"After what time without a keyframe a video starts at the frames that the encoder marks as keyframes."`
	TrackWait        time.Duration `key:"track_wait" default:"2s" min:"0s" max:"30s" reload:"live" write:"operate" help:"How long the start of a stream waits for announced tracks."`
	MaxMessage       Bytes         `key:"max_message" default:"8MiB" min:"64KiB" max:"1GiB" reload:"new connections" write:"operate" help:"The maximum size of an audio or video message."`

	GopNum      int           `key:"gop_num" old:"latency" words:"live-edge=0,gop=1" default:"1" min:"0" group:"Viewing" reload:"live" write:"operate" help:"The keyframe at which viewers start, counted back from the newest, with an immediate picture. 0: at the live edge, with audio now and video at the next keyframe."`
	PlayWait    time.Duration `key:"play_wait" default:"30s" min:"0s" max:"24h" reload:"new connections" write:"operate" help:"How long a player waits for a stream that is not live. 0: no limit."`
	MaxLatency  time.Duration `key:"max_latency" default:"4s" min:"500ms" max:"5m" reload:"live" write:"operate" help:"How far a viewer may fall behind before it skips to a newer keyframe."`
	BatchWindow BatchWindow   `key:"batch_window" old:"gather" default:"auto" max:"200ms" reload:"live" write:"operate" help:"The batching window: how long frames are collected at most before they are written to viewers. A longer window needs less processor time. A window ends early if the next picture would come after its end; audio waits for the next picture, at most twice as long. auto: the more viewers and the higher the load, the longer."`
	RingTime    time.Duration `key:"ring_time" default:"30s" min:"1s" max:"10m" reload:"live" write:"operate" help:"The maximum duration of a stream that is held in memory for viewers."`
	RingSize    Bytes         `key:"ring_size" default:"64MiB" min:"1MiB" max:"64GiB" reload:"live" write:"operate" help:"The maximum size of a stream that is held in memory for viewers."`

	Thumbnails        string        `key:"thumbnails" default:"auto" oneof:"auto,off" reload:"live" write:"operate" help:"Serve the newest keyframe of each stream as JPEG at /APP/ROOM.jpg. auto: if ffmpeg is installed."`
	ThumbnailInterval time.Duration `key:"thumbnail_interval" default:"10s" min:"1s" max:"1h" reload:"live" write:"operate" help:"How long a thumbnail is kept at least before a newer one is rendered."`
	ThumbnailTimeout  time.Duration `key:"thumbnail_timeout" default:"10s" min:"1s" max:"1m" reload:"live" write:"operate" help:"How long ffmpeg may take to render a thumbnail. A client waits twice that long for the first thumbnail of a stream."`
	FFmpeg            string        `key:"ffmpeg" default:"ffmpeg" nonempty:"true" reload:"live" write:"no" help:"The ffmpeg program that renders thumbnails: a path, or a name in PATH."`

	HLSSegment        time.Duration `key:"hls_segment" default:"2s" min:"500ms" max:"6s" group:"HLS" reload:"new streams" write:"operate" help:"The intended duration of a segment; it ends at the next keyframe."`
	HLSPart           time.Duration `key:"hls_part" default:"200ms" min:"0s" max:"1s" reload:"new streams" write:"operate" help:"The intended duration of a part for low-latency HLS; a part is a whole number of frames. 0: no parts."`
	HLSWindow         int           `key:"hls_window" default:"8" min:"8" max:"1000" reload:"new streams" write:"operate" help:"The length of a playlist, in segments."`
	HLSKeepAfterEnd   bool          `key:"hls_keep_after_end" default:"false" reload:"live" write:"operate" help:"Keep the playlist of an ended stream until it is published again."`
	HLSStartWait      time.Duration `key:"hls_start_wait" default:"10s" min:"0s" max:"1m" reload:"live" write:"operate" help:"How long a request for a playlist waits for the first segment."`
	HLSSessionTimeout time.Duration `key:"hls_session_timeout" default:"30s" min:"1s" max:"10m" reload:"live" write:"operate" help:"After what time without requests a viewer is gone."`
	HLSSessions       bool          `key:"hls_sessions" default:"true" reload:"live" write:"operate" help:"Count HLS viewers by a session in the URL of each one's media playlist. If false, viewers that need no token all get the same playlists, which a cache may serve, and are not counted. See docs/operating.md."`

	MetricsStreams int  `key:"metrics_streams" default:"0" min:"0" max:"200" group:"Metrics" reload:"live" write:"operate" help:"How many streams have series of their own in /metrics, with their names: those that started first. 0: none."`
	PlayerReports  bool `key:"player_reports" default:"true" reload:"live" write:"operate" help:"Let players report how well they play: start time, stalls, delay, dropped frames, errors. Figures of a stream are made of them, and no address is stored. See docs/watching.md."`

	OTLPEndpoint string `key:"otlp_endpoint" secret:"url" group:"Traces" reload:"restart" help:"The URL of a collector for traces by OTLP over HTTP: http://localhost:4318. Without a path, /v1/traces is added. See docs/metrics.md."`
	OTLPHeaders  string `key:"otlp_headers" secret:"true" reload:"restart" help:"Headers of each request to the collector, for instance with a credential: name=value, separated by commas."`
	OTLPSample   int    `key:"otlp_sample" default:"1" min:"1" max:"1000000" reload:"restart" write:"operate" help:"Trace one session in so many. 1: each."`

	RelayAllow []string `key:"relay_allow" group:"Relays" reload:"live" help:"Addresses, ranges (10.0.0.0/8) and host names in private networks and on this machine, to which relays of the operator's HTTP may connect. Those of static_push always may."`
	RelayMax   int      `key:"relay_max" default:"100" min:"0" reload:"live" write:"operate" help:"The maximum number of relays that the operator's HTTP may run at a time."`

	ReadTimeout      time.Duration `key:"read_timeout" default:"10s" min:"1s" max:"2m" group:"Connections" reload:"new connections" write:"operate" help:"After what time without a complete message an encoder is lost."`
	WriteTimeout     time.Duration `key:"write_timeout" default:"10s" min:"100ms" max:"2m" reload:"restart" write:"operate" help:"After what time without progress a viewer is disconnected."`
	AnswerTimeout    time.Duration `key:"answer_timeout" default:"30s" min:"1s" max:"1h" reload:"live" write:"operate" help:"How long a viewer may take to read a playlist, a segment or a part of HLS, or four times its duration if that is longer."`
	HandshakeTimeout time.Duration `key:"handshake_timeout" default:"5s" min:"100ms" max:"1m" reload:"restart" write:"operate" help:"How long a handshake may take, including TLS."`
	CommandTimeout   time.Duration `key:"command_timeout" default:"10s" min:"100ms" max:"2m" reload:"new connections" write:"operate" help:"How long an RTMP connection may take to publish or play, including the handshake."`
	HeaderTimeout    time.Duration `key:"http_read_header_timeout" default:"5s" min:"100ms" max:"1m" reload:"restart" write:"operate" help:"How long a client may take to send the header of an HTTP request."`
	IdleTimeout      time.Duration `key:"http_idle_timeout" default:"60s" min:"1s" max:"1h" reload:"restart" write:"operate" help:"How long an HTTP connection is kept open between requests."`

	FLVArchive     bool          `key:"flv_archive" default:"false" group:"Recording" reload:"restart" help:"Record every stream to FLV files. See docs/recording.md."`
	FLVDir         string        `key:"flv_dir" default:"tmp" nonempty:"true" reload:"restart" help:"The directory of recordings: flv_dir/APP/ROOM_UNIXSECONDS.flv. Created if missing."`
	RecordKeep     time.Duration `key:"record_keep" default:"0s" min:"0s" reload:"live" write:"operate" help:"How long finished recordings are kept: 720h, or 30d. Older ones are deleted. 0: no limit."`
	RecordKeepSize Bytes         `key:"record_keep_size" default:"0" min:"0" reload:"live" write:"operate" help:"How much space recordings may use together. The oldest finished ones are deleted beyond it. 0: no limit."`
	RecordMinFree  FreeSpace     `key:"record_min_free" default:"2%" reload:"live" write:"operate" help:"The free space that recordings leave on the disk, in percent or as a size such as 5GiB. Below it no recording starts and running ones are closed; they continue in a new file when two and a half times as much is free. 0: they end when a write fails."`
	RecordMode     Mode          `key:"record_mode" default:"0640" reload:"restart" help:"The file mode of new recordings, in octal. Users who may read them can list new directories. Existing files and directories keep their mode."`

	// Apps are the entries of server, with unique names; there is at least one.
	Apps []App

	// Deprecated lists the deprecated names by which settings were given. Load sets it.
	Deprecated []DeprecatedName
}

// A DeprecatedName is the old name of a setting, which still works, and the new one.
type DeprecatedName struct{ Old, New string }

// App is one application: the first part of a stream's address.
type App struct {
	Name string // appname
	Live bool   // accepts publishers and viewers
	HLS  bool   // viewers by HLS
	FLV  bool   // viewers by HTTP-FLV
	API  bool   // relays can be started by the operator's HTTP

	StaticPush Targets // URLs to which each stream is pushed: the URL, a slash and the room
}

// Targets are URLs that may contain secrets, which no output shows.
type Targets []string

func (t Targets) String() string { return fmt.Sprintf("(%d set)", len(t)) }

// GoString implements fmt.GoStringer, without the URLs.
func (t Targets) GoString() string { return t.String() }

func newApp(name string) App { return App{Name: name, Live: true, HLS: true, FLV: true, API: true} }

// BatchWindow is how long frames are collected before they are written to viewers.
type BatchWindow struct {
	Auto  bool          // depends on the number of viewers and the load
	Fixed time.Duration // the window if Auto is false
}

func (g BatchWindow) String() string {
	if g.Auto {
		return "auto"
	}
	return g.Fixed.String()
}

// FreeSpace is an amount of disk space: a size, or if that is 0 a percentage of the disk.
type FreeSpace struct {
	Size    Bytes
	Percent float64
}

func (f FreeSpace) String() string {
	if f.Size > 0 {
		return f.Size.String()
	}
	return strconv.FormatFloat(f.Percent, 'f', -1, 64) + "%"
}

// Mode holds the permission bits of new files, as chmod takes them.
type Mode uint32

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// Perm returns m as an fs.FileMode.
func (m Mode) Perm() fs.FileMode { return fs.FileMode(m) }

// Bytes is a size in bytes.
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

// Default returns the default settings.
func Default() Config {
	c := Config{Apps: []App{newApp("live")}}
	for _, f := range fields() {
		if err := f.set(&c, f.Default); err != nil {
			panic("config: the default of " + f.Key + " " + err.Error())
		}
	}
	return c
}

// String returns the settings as key=value, without the secrets.
func (c Config) String() string {
	var b strings.Builder
	for _, a := range c.attrs() {
		fmt.Fprintf(&b, "%s=%s ", a.Key, a.Value)
	}
	return strings.TrimSuffix(b.String(), " ")
}

// GoString implements fmt.GoStringer, without the secrets.
func (c Config) GoString() string { return "config.Config{" + c.String() + "}" }

// LogValue implements slog.LogValuer, without the secrets.
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
