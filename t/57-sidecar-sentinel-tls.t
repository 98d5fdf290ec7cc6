# The sidecar's Redis behind Sentinels that want a user and a password of their own, everything by TLS: a wrong password or
# certificate is said so, a failover is followed, and no webhook may reach the master that turned up.
use v5.36;
use Test::More;

use Headgate::Account;
use Headgate::Authority;
use Headgate::Credentials qw(json);
use Headgate::Http;
use Headgate::Receiver;
use Headgate::Sentinel;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $ca   = Headgate::Authority->start($t);
my %PASS = map { $_ => "$_-" . 'p4ss' x 5 } qw(master sentinel ours);
my %file = map { $_ => $t->write_file("pass-$_", "$PASS{$_}\n") } keys %PASS;

my @tls_ports = map { $t->port } 0 .. 2;
my ($master, $replica) = map {
    $t->redis(
        name => "redis$_", appendonly => 'no', password => $PASS{master},
        extra => $ca->redis_lines($tls_ports[$_], 'IP:127.0.0.1') . "masterauth $PASS{master}\ntls-replication yes\nrepl-diskless-sync-delay 0",
    )
} 0, 1;
$replica->follow($master, $tls_ports[0]);
my $sentinel = Headgate::Sentinel->start(
    $t, password => $PASS{sentinel}, master_password => $PASS{master}, address => "127.0.0.1 $tls_ports[0]",
    extra => $ca->redis_lines($tls_ports[2], 'IP:127.0.0.1')
        . "tls-replication yes\nrequirepass $PASS{sentinel}\nuser ours on >$PASS{ours} -\@all +auth +sentinel|get-master-addr-by-name\n",
);
$sentinel->wait_for_replicas(1);

my $dead_port = $t->port;
my %redis     = (
    url => "rediss://127.0.0.1:$dead_port", tls_ca_file => $ca->pem, password_file => $file{master}, sentinel_master => 'mymaster',
    sentinel_username => 'ours', sentinel_password_file => $file{ours},
);
my $lines = join '', qq(sentinels = ["127.0.0.1:$dead_port", "127.0.0.1:$tls_ports[2]"]\n), map { qq($_ = "$redis{$_}"\n) } sort keys %redis;
my $sidecar = $t->sidecar(redis => $master, redis_toml => $lines);

# ---- what check-config says ------------------------------------------------------------------------

my $toml = $t->read_file($sidecar->config);
my $other = Headgate::Authority->start($t, 'other');
for my $case (
    ["a wrong password of the Sentinels", sentinel_password_file => $file{master}, qr/Sentinel: .*WRONGPASS/],
    ["none for the master", password_file => $t->write_file('pass-wrong', "wrong\n"), qr/AUTH or SELECT was refused: WRONGPASS/],
    ['an authority that signed nothing here', tls_ca_file => $other->pem, qr/its certificate is refused/],
) {
    my ($name, $key, $value, $pattern) = @$case;
    $t->write_file($sidecar->config, $toml =~ s/^$key = .*/$key = "$value"/mr);
    my ($code, $said) = $sidecar->run('check-config');
    ok $code != 0 && $said =~ $pattern, "check-config: $name" or diag $said;
    unlike $said, qr/p4ss/, '... and shows no password';
}
$t->write_file($sidecar->config, $toml);
my ($code, $said) = $sidecar->run('check-config');
is $code, 0, 'check-config reaches the master' or diag $said;

# ---- the whole road ----------------------------------------------------------------------------------

my $receiver = Headgate::Receiver->start($t);
$sidecar->serve->wait_until_healthy;
my $front = $sidecar->front(
    redis_address => "127.0.0.1:$tls_ports[2] sentinel=mymaster tls=on tls_ca=@{[ $ca->pem ]} password_file=$file{master} sentinel_username=ours sentinel_password_file=$file{ours}",
    http => 'headgate_publish_ack replica;',
);
my $road = Headgate::Account->new($t, sidecar => $sidecar, front => $front, receiver => $receiver);
sub webhook ($url) {
    return Headgate::Http->connect(port => $sidecar->port)->request(
        'POST', '/api/webhooks', headers => ['X-API-Key' => $sidecar->api_key, 'Content-Type' => 'application/json'], body => json({ url => $url, events => ['order.*'] }),
    );
}
is webhook($receiver->url('w'))->status, 201, 'a webhook';
$road->publish(['w'], type => 'order.created') for 1 .. 20;
$road->wait_for_all(20);
pass 'events are delivered';
like $master->command('CLIENT', 'LIST'), qr/laddr=127\.0\.0\.1:$tls_ports[0] .*cmd=xreadgroup/, 'by TLS';
unlike $master->command('CLIENT', 'LIST') =~ s/^.*cmd=client.*\n//mgr, qr/laddr=127\.0\.0\.1:@{[ $master->port ]} .*cmd=(?:xreadgroup|xack|hset)/, 'and nothing of ours without';
sub is_refused ($name, $port) {
    my $answer = webhook("http://127.0.0.1:$port/");
    ok $answer->status == 422 && $answer->body =~ /Headgate's own Redis/, $name or diag $answer->body;
}
is_refused('no webhook may reach the master that the Sentinels named', $tls_ports[0]);
is_refused('nor its replica', $tls_ports[1]);

$sentinel->command('SENTINEL', 'FAILOVER', 'mymaster');
$t->wait_for('the Sentinel to promote the replica', sub { $sentinel->master_port == $tls_ports[1] }, 30);
delete $_->{client} for $master, $replica;    # a server whose role changes drops its clients
$master->command('REPLICAOF', '127.0.0.1', $tls_ports[1]);    # Sentinel would do it, after 10 s
my $accepted = 0;
$t->wait_for('twenty events by the new master', sub { $accepted++ if $road->try_publish(['w'], type => 'order.created'); $accepted >= 20 }, 30);
$road->wait_for_all(30);
pass 'events are delivered after the failover';
$sidecar->wait_until_healthy;
like $replica->command('CLIENT', 'LIST'), qr/laddr=127\.0\.0\.1:$tls_ports[1] .*cmd=xreadgroup/, 'by TLS as well';
is_refused('nor the one that was promoted', $tls_ports[1]);
unlike $sidecar->process->log_text, qr/p4ss/, 'the log shows no password';

$t->done;
