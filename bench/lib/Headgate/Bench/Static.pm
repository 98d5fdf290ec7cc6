# The rows of what nginx serves by itself, a file of 1 KiB or its one-pixel GIF (the cheapest answer there
# is): a location with authentication against the same without, and nginx with the module loaded against
# nginx without it.
package Headgate::Bench::Static;
use v5.36;
use utf8;

use Exporter qw(import);

use Headgate::Bench::Credentials qw(credentials make_rsa_key make_tokens);
use Headgate::Bench::Http qw(edge_nginx get_load lines_of_http load_http nginx_conf wait_until_ready $CONNECTIONS);
use Headgate::Bench::Measure qw(alternate);
use Headgate::Bench::Redis;

our @EXPORT_OK = qw(content guard_row guard_rs256_row unused_row);

my %WHAT = (file => 'a file of 1 KiB', gif => 'empty_gif');

# The inside of a location. kind: `file` or `gif`.
sub content ($t, $kind) {
    return 'empty_gif;' if $kind eq 'gif';
    return 'alias ' . $t->write_file('www/file.txt', 'x' x 1024, 0644) . '; default_type text/plain;';
}

# /open and /guarded, the same but for authentication.
sub open_and_guarded ($t, $kind, $auth = 'headgate_auth jwt;') {
    my $content = content($t, $kind);
    return "location = /open { $content } location = /guarded { $auth $content }";
}

sub conditions ($options, @more) {
    return [
        "wrk, 1 thread, $CONNECTIONS connections, GET, $options->{seconds} s a run; one nginx worker; the same request on both sides",
        @more,
    ];
}

# Dies unless /guarded is guarded and both answer the same.
sub show_that_it_guards ($t, $edge, $token) {
    my $without = $edge->get('/guarded');
    my ($open, $guarded) = map { $edge->get($_, headers => ['Authorization', "Bearer $token"]) } qw(/open /guarded);
    $t->die_with_logs('the statuses are ' . join ', ', map { $_->status } $without, $open, $guarded)
        if $without->status != 401 || $open->status != 200 || $guarded->status != 200;
    $t->die_with_logs('two answers of one content differ') if $open->body ne $guarded->body;
}

# A location with `headgate_auth jwt` against the same without; the token has been seen before.
sub guard_row (%row) {
    return {
        title    => "$WHAT{$row{kind}} behind headgate_auth jwt, HS256, token seen before",
        against  => 'the same location of the same nginx without',
        ratio    => 'theirs/ours',
        at_least => $row{at_least},
        lines    => lines_of_http(),
        run      => sub ($t, $options, $say) {
            my $redis       = Headgate::Bench::Redis->start($t);
            my $credentials = credentials($t, $redis);
            my $edge        = edge_nginx($t, $redis, $credentials, locations => open_and_guarded($t, $row{kind}));
            show_that_it_guards($t, $edge, $credentials->{tokens}{bench});

            my %load = (server => $edge, load => get_load($credentials->{token_file}));
            my $run  = sub ($path) {
                return sub ($seconds = $options->{seconds}) { load_http($t, %load, path => $path, seconds => $seconds) };
            };
            my ($ours, $theirs) = map { $run->($_) } qw(/guarded /open);
            $say->('warming up');
            $_->(1) for $ours, $theirs;
            my ($our_results, $their_results) = alternate($options->{pairs}, $say, $ours, $theirs);
            return { ours => $our_results, theirs => $their_results, conditions => conditions($options) };
        },
    };
}

# The same with RS256, every token new to the zone, against a bare verification plus the unguarded request.
# The zone holds fewer tokens than there are, and they come in turn: each has been evicted before it returns.
sub guard_rs256_row (%row) {
    return {
        title    => "$WHAT{$row{kind}} behind headgate_auth jwt, RS256, every token new",
        against  => 'one verification of such a token (as openssl speed rsa2048) plus the same location without',
        ratio    => 'theirs/ours',
        at_least => $row{at_least},
        lines    => lines_of_http('worker', [verify_us => 'µs of one verification alone']),
        run      => sub ($t, $options, $say) {
            my $redis       = Headgate::Bench::Redis->start($t);
            my $credentials = credentials($t, $redis);
            my ($private_key, $public_key) = make_rsa_key($t);
            my $edge = edge_nginx(
                $t, $redis, $credentials, no_start => 1, zone => '512k',
                locations => open_and_guarded($t, $row{kind}, "headgate_jwt_key_file $public_key alg=RS256; headgate_auth jwt;"),
            );
            my ($code, $said) = $edge->test_configuration;
            return { skipped => 'this build refuses RS256 keys: ' . ((grep { /emerg/ } split /\n/, $said)[0] // $said) } if $code != 0;
            $edge->launch;
            wait_until_ready($t, $edge);

            $say->("signing $options->{tokens} tokens");
            my $tokens_file = make_tokens($t, 'RS256', $private_key, $options->{tokens});
            my ($token) = split /\n/, $t->read_file($tokens_file);
            show_that_it_guards($t, $edge, $token);

            my %load = (server => $edge, load => get_load($tokens_file));
            my $ours = sub ($seconds = $options->{seconds}) { load_http($t, %load, path => '/guarded', seconds => $seconds) };
            my $theirs = sub ($seconds = $options->{seconds}) {
                my $result = load_http($t, %load, path => '/open', seconds => $seconds);
                my $alone  = $t->json_of($t->program('credentials'), 'verify', $public_key, $tokens_file, $seconds);
                $result->{verify_us} = $alone->{cpu_us};
                $result->{cpu_us} += $alone->{cpu_us};
                return $result;
            };
            $say->('warming up');
            $_->(1) for $ours, $theirs;
            my ($our_results, $their_results) = alternate($options->{pairs}, $say, $ours, $theirs);
            return {
                ours       => $our_results,
                theirs     => $their_results,
                conditions => conditions($options, "RSA-2048; $options->{tokens} tokens in turn through a zone of 512 KiB"),
            };
        },
    };
}

# nginx with the module loaded against nginx without it. elsewhere: another server block uses the module.
sub unused_row (%row) {
    my $where = $row{elsewhere} ? 'used in another server block' : 'not used';
    return {
        title    => "$WHAT{$row{kind}} with the module loaded and $where",
        against  => 'the same nginx without the module',
        ratio    => 'theirs/ours',
        at_least => 0.98,
        lines    => lines_of_http(),
        run      => sub ($t, $options, $say) {
            my $redis       = Headgate::Bench::Redis->start($t);
            my $credentials = credentials($t, $redis);
            my $location    = 'location = /open { ' . content($t, $row{kind}) . ' }';
            my $loaded;
            if ($row{elsewhere}) {
                my $port = $t->port;
                $loaded = edge_nginx(
                    $t, $redis, $credentials, no_start => 1, locations => $location,
                    http => "server { listen 127.0.0.1:$port; location / { headgate_auth jwt; headgate_limit plan; empty_gif; } }",
                );
            }
            else {
                $loaded = $t->nginx(name => 'loaded', http2 => 0, no_start => 1, http => nginx_conf(), server => $location);
            }
            my $bare = $t->nginx(name => 'bare', module => 0, http2 => 0, no_start => 1, http => nginx_conf(), server => $location);

            # A process keeps its luck with addresses and caches as long as it lives, and 2 % are less than
            # that: each run has a new one.
            my $run = sub ($server) {
                return sub ($seconds = $options->{seconds}) {
                    $server->process ? $server->restart : $server->launch;
                    wait_until_ready($t, $server) if $row{elsewhere} && $server == $loaded;
                    my %load = (server => $server, path => '/open', load => get_load($credentials->{token_file}));
                    load_http($t, %load, seconds => 1);
                    return load_http($t, %load, seconds => $seconds);
                };
            };
            my ($our_results, $their_results) = alternate($options->{pairs}, $say, $run->($loaded), $run->($bare));
            my @more = 'a new nginx for each run, warmed up for 1 s';
            return { ours => $our_results, theirs => $their_results, conditions => conditions($options, @more) };
        },
    };
}

1;
