package dss

// For fuzzing without a server in between.
var (
	DecodeAuthInfo   = decodeAuthInfo
	DecodeTicket     = decodeTicket
	HeaderDictionary = headerDictionary
	PluginKey        = pluginKey
	RetryAfter       = retryAfter
	APIURL           = apiURL
)
