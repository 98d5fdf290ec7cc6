# docs/directives.md against the module's own tables: neither can drift. And its example through nginx -t.
use v5.36;
use Test::More;

use Headgate::Nginx;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $root = $t->root;
my $page = $t->read_file("$root/docs/directives.md");

# -- directives and where they may stand -----------------------------------------------------------
my %in_code;
my $table = $t->read_file("$root/ngx_module/directives.cpp");
while ($table =~ /ngx_string\("(headgate_\w+)"\),\s*([\w| ]+)/g) {
    my ($name, $flags) = ($1, $2);
    $in_code{$name} = $flags =~ /kAnyLevel/ ? 'http, server, location' : $flags =~ /NGX_HTTP_MAIN_CONF/ ? 'http' : 'location';
}
ok keys %in_code > 10, 'the command table was read';
my %in_page;
while ($page =~ /^### (headgate_\w+)\n\nSyntax: `\1\b[^`]*;` Default: [^\n]+?\. Context: ([^\n]+)$/mg) { $in_page{$1} = $2 }
is_deeply \%in_page, \%in_code, 'every directive, with its context, and no other';

# -- variables and reasons --------------------------------------------------------------------------
my ($variables) = $page =~ /^## Variables\n(.*)\z/ms;
my %named   = map { $_ => 1 } $variables =~ /\$(headgate_\w+)/g;
my %defined = map { $_ => 1 } $t->read_file("$root/ngx_module/variables.cpp") =~ /\{"(headgate_\w+)",/g;
my ($prefix) = $t->read_file("$root/ngx_module/claims.h") =~ /kClaimPrefix = "(\w+)"/;
$defined{$prefix} = 1;    # $headgate_claim_<name> in the page
is_deeply \%named, \%defined, 'every variable, and no other';
my ($names)  = $t->read_file("$root/ngx_module/auth_status.cpp") =~ /kNames = \{(.*?)\}/s;
my @reasons  = grep { length } $names =~ /"(\w*)"/g;
my ($row)    = $variables =~ /^\| `\$headgate_auth_status` \|([^\n]*)$/m;
is_deeply [$row =~ /`(\w+)`/g], \@reasons, 'every reason of $headgate_auth_status, in order';

# -- the examples -----------------------------------------------------------------------------------
my $port = $t->port;
$t->write_file("etc/$_", ('0123456789abcdef' x 4) . "\n") for qw(pepper token.key);
my $module = $ENV{HEADGATE_MODULE} // "$root/build/ngx_http_headgate_module.so";
for my $name (qw(directives authentication)) {
    my $text     = $t->read_file("$root/docs/$name.md");
    my @examples = $text =~ /^<!-- checked: nginx -t -->\n```nginx\n(.*?)^```/msg;
    ok scalar @examples, "docs/$name.md has examples";
    for my $example (@examples) {
        $example =~ s{/etc/headgate/}{$t->path('etc') . '/'}ge;
        $example =~ s/127\.0\.0\.1:8080/127.0.0.1:$port/;
        my $conf = $t->write_file('nginx.conf', "load_module $module;\npid @{[ $t->path('nginx.pid') ]};\nevents {}\nhttp {\naccess_log off;\n$example\n}\n");
        my $said = `@{[ Headgate::Nginx->executable ]} -t -p @{[ $t->dir('prefix') ]} -e @{[ $t->path('error.log') ]} -c $conf 2>&1`;
        is $?, 0, "nginx -t accepts the example of docs/$name.md" or diag $said;
    }
}

$t->done;
