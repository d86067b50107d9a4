//! A short notation for expressions in tests: `(add i 1)`, `(when b 1 0)`, `"text"`, `@2024-01-15`, `#0.8` (a Decimal), `[1 2]`, names are columns.

use crate::expr::{Expr, Literal, Op};
use crate::time::parse_time;

pub fn parse(text: &str) -> Expr {
    let mut tokens = tokenize(text);
    tokens.reverse();
    let expr = expression(&mut tokens);
    assert!(tokens.is_empty(), "rest in {text}: {tokens:?}");
    expr
}

fn tokenize(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '(' | ')' | '[' | ']' => 1,
            '"' => rest[1..].find('"').unwrap() + 2,
            _ => rest.find([' ', '(', ')', '[', ']']).unwrap_or(rest.len()),
        };
        tokens.push(rest[..end].to_string());
        rest = rest[end..].trim_start();
    }
    tokens
}

fn expression(tokens: &mut Vec<String>) -> Expr {
    let token = tokens.pop().unwrap();
    if token != "(" {
        return match literal(&token, tokens) {
            Some(literal) => Expr::Lit(literal),
            None => Expr::Col(token),
        };
    }
    let op = tokens.pop().unwrap();
    let mut args = Vec::new();
    while tokens.last().unwrap() != ")" {
        args.push(expression(tokens));
    }
    tokens.pop();
    if op == "when" {
        let otherwise = Box::new(args.pop().unwrap());
        let branches = args.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        return Expr::When { branches, otherwise };
    }
    let op: Op = serde_json::from_value(serde_json::Value::from(op)).unwrap();
    Expr::Call { op, args }
}

fn literal(token: &str, tokens: &mut Vec<String>) -> Option<Literal> {
    Some(match token {
        "null" => Literal::Null(()),
        "true" => Literal::Bool(true),
        "false" => Literal::Bool(false),
        "[" => {
            let mut items = Vec::new();
            while tokens.last().unwrap() != "]" {
                let item = tokens.pop().unwrap();
                items.push(literal(&item, tokens).unwrap());
            }
            tokens.pop();
            Literal::List(items)
        }
        _ if token.starts_with('"') => Literal::Str(token.trim_matches('"').to_string()),
        _ if token.starts_with('#') => Literal::Decimal(token[1..].to_string()),
        _ if token.starts_with('@') => Literal::Datetime(parse_time(&token[1..]).unwrap()),
        _ => match (token.parse::<i64>(), token.parse::<f64>()) {
            (Ok(number), _) => Literal::Int(number),
            (_, Ok(number)) if token.contains('.') => Literal::Float(number),
            _ => return None,
        },
    })
}
